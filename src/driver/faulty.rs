//! Any driver with faults: errors before or after the effect, throttling, slowness, machines that cannot be seen clearly.
//!
//! In: a driver and a source of faults. Out: a driver that keeps the same promises, but for breaking down.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::domain::machine::{MachineSpec, Observed, Presence, Size};
use crate::driver::{Capabilities, Driver, DriverError, Listing};

/// A call, as faults see it.
#[derive(Clone, Copy, Debug)]
pub enum Call<'a> {
    /// [`Driver::ensure`].
    Ensure(&'a MachineSpec),
    /// [`Driver::list`].
    List,
    /// [`Driver::delete`].
    Delete(&'a str),
}

impl Call<'_> {
    /// The machine that it is about.
    pub fn name(&self) -> Option<&str> {
        match self {
            Call::Ensure(spec) => Some(&spec.name),
            Call::List => None,
            Call::Delete(name) => Some(name),
        }
    }
}

/// Where faults come from. A source that waits makes the call slow.
#[async_trait::async_trait]
pub trait Faults: Send + Sync {
    /// Strikes before the effect: it does not happen then.
    async fn before(&self, call: Call<'_>) -> Option<DriverError>;

    /// Strikes after the effect: it happened, and the caller does not know.
    async fn after(&self, call: Call<'_>) -> Option<DriverError>;

    /// Whether a listing that is being answered cannot see this machine clearly.
    fn is_blind(&self, name: &str) -> bool;
}

/// A driver with faults.
pub struct Faulty<D> {
    inner: Arc<D>,
    faults: Arc<dyn Faults>,
}

impl<D: Driver> Faulty<D> {
    /// `inner` with faults.
    pub fn new(inner: Arc<D>, faults: Arc<dyn Faults>) -> Faulty<D> {
        Faulty { inner, faults }
    }

    /// The driver without faults.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    async fn through<T>(
        &self,
        call: Call<'_>,
        effect: impl Future<Output = Result<T, DriverError>> + Send,
    ) -> Result<T, DriverError> {
        if let Some(error) = self.faults.before(call).await {
            return Err(error);
        }
        let result = effect.await;
        match self.faults.after(call).await {
            Some(error) => Err(error),
            None => result,
        }
    }
}

#[async_trait::async_trait]
impl<D: Driver> Driver for Faulty<D> {
    async fn ensure(&self, spec: &MachineSpec) -> Result<Observed, DriverError> {
        self.through(Call::Ensure(spec), self.inner.ensure(spec)).await
    }

    async fn list(&self) -> Result<Listing, DriverError> {
        let mut listing = self.through(Call::List, self.inner.list()).await?;
        for machine in &mut listing.machines {
            if self.faults.is_blind(&machine.name) {
                machine.presence = Presence::Unknown;
            }
        }
        Ok(listing)
    }

    async fn delete(&self, name: &str) -> Result<(), DriverError> {
        self.through(Call::Delete(name), self.inner.delete(name)).await
    }

    async fn evidence(&self, name: &str) -> Option<String> {
        self.inner.evidence(name).await
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        self.inner.changes()
    }

    fn sizes(&self) -> &[Size] {
        self.inner.sizes()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

/// One fault of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptedFault {
    /// The call goes through.
    None,
    /// A passing fault before the effect.
    Before,
    /// A passing fault after the effect.
    After,
    /// A listing goes through and sees no machine clearly.
    Blind,
}

/// Faults in the order of calls; when the script is over, none.
#[derive(Debug, Default)]
pub struct Script {
    faults: Mutex<VecDeque<ScriptedFault>>,
    current: Mutex<Option<ScriptedFault>>,
}

impl Script {
    /// A script; one fault a call.
    pub fn new(faults: impl IntoIterator<Item = ScriptedFault>) -> Script {
        Script { faults: Mutex::new(faults.into_iter().collect()), current: Mutex::new(None) }
    }

    fn current(&self) -> Option<ScriptedFault> {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait::async_trait]
impl Faults for Script {
    async fn before(&self, _: Call<'_>) -> Option<DriverError> {
        let next = self.faults.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = next;
        (next == Some(ScriptedFault::Before)).then(|| DriverError::Transient("scripted, before the effect".into()))
    }

    async fn after(&self, _: Call<'_>) -> Option<DriverError> {
        (self.current() == Some(ScriptedFault::After)).then(|| DriverError::Transient("scripted, after the effect".into()))
    }

    fn is_blind(&self, _: &str) -> bool {
        self.current() == Some(ScriptedFault::Blind)
    }
}
