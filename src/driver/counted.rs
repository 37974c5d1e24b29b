//! Any driver, with its calls counted and timed.

use tokio::sync::watch;

use crate::domain::machine::{MachineSpec, Observed, Size};
use crate::driver::{Capabilities, Driver, DriverError, Listing, SharedDriver};
use crate::telemetry::DriverCall;

/// A driver whose calls are counted.
pub(super) struct Counted(SharedDriver);

impl Counted {
    /// `inner`, counted.
    pub(super) fn new(inner: SharedDriver) -> Counted {
        Counted(inner)
    }
}

async fn count<T>(name: &'static str, call: impl Future<Output = Result<T, DriverError>> + Send) -> Result<T, DriverError> {
    let counted = DriverCall::begin(name);
    let result = call.await;
    counted.end(result.as_ref().map_or_else(DriverError::kind, |_| "ok"));
    result
}

#[async_trait::async_trait]
impl Driver for Counted {
    async fn ensure(&self, spec: &MachineSpec) -> Result<Observed, DriverError> {
        count("ensure", self.0.ensure(spec)).await
    }

    async fn list(&self) -> Result<Listing, DriverError> {
        count("list", self.0.list()).await
    }

    async fn delete(&self, name: &str) -> Result<(), DriverError> {
        count("delete", self.0.delete(name)).await
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        self.0.changes()
    }

    async fn evidence(&self, name: &str) -> Option<String> {
        self.0.evidence(name).await
    }

    fn sizes(&self) -> &[Size] {
        self.0.sizes()
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }
}
