//! What every driver must keep, whatever a machine is to it. Run by the tests of each driver on the driver itself.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::domain::machine::{MachineSpec, Observed, Presence, Role};
use crate::driver::{Driver, DriverError};

/// A name that no machine ever has.
const NOBODY: &str = "conformance-00000000000000000000000000000000";

/// When calls are dropped, in eighths of the time that such a call took when it was waited for.
const DROPPED_AT: [u32; 5] = [0, 1, 3, 5, 7];

/// How many times as long as a call took whatever was left of one is looked for.
const LATE: u32 = 10;

/// Pause between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(20);

/// A driver on trial, and what it is tried with.
pub struct Trial<'a> {
    /// The driver.
    pub driver: &'a dyn Driver,
    /// One that was built anew from the same settings, as after a restart of the server; the same one where nothing would outlive it.
    pub successor: &'a dyn Driver,
    /// Another spec each time: of a name that was never used, and of one cluster.
    pub spec: &'a (dyn Fn() -> MachineSpec + Sync),
    /// Specs of more than there is or may be had, of names that were never used.
    pub beyond: Vec<MachineSpec>,
    /// Longest time that a call may take, and that may pass until what it was asked for is seen. Of virtual machines this is minutes.
    pub deadline: Duration,
}

/// Checks a driver: what it says of itself, making and unmaking once, again and at once, that a successor sees the same, that too much is
/// refused, that calls whose caller left half-way do no harm, and that strangers are untouched. Leaves nothing of its own behind when it
/// succeeds.
///
/// # Errors
/// The rule that was broken, as a sentence.
pub async fn check(trial: &Trial<'_>) -> Result<(), String> {
    let before = trial.names().await?;
    trial.says_what_it_is()?;
    let took = trial.makes_and_unmakes(&before).await?;
    trial.refuses_too_much().await?;
    trial.outlives_its_callers(took).await?;
    let after = trial.names().await?;
    if let Some(lost) = before.iter().find(|name| !after.contains(*name)) {
        return Err(format!("{lost} is gone, though nobody asked for that"));
    }
    Ok(())
}

/// How long calls took that were waited for.
struct Took {
    making: Duration,
    unmaking: Duration,
}

impl Trial<'_> {
    fn says_what_it_is(&self) -> Result<(), String> {
        let sizes = self.driver.sizes();
        let names: HashSet<String> = sizes.iter().map(|size| size.name.to_ascii_uppercase()).collect();
        if sizes.is_empty() || names.len() != sizes.len() {
            return Err(format!("of {} sizes {} have a name of their own", sizes.len(), names.len()));
        }
        if let Some(empty) = sizes.iter().find(|size| size.cores == 0 || size.memory_mib == 0 || size.name.is_empty()) {
            return Err(format!("a size is nothing: {empty:?}"));
        }
        let other = self.successor.sizes();
        if sizes != other || self.driver.capabilities() != self.successor.capabilities() {
            return Err("a driver that was built anew has other sizes or can do other things".to_owned());
        }
        Ok(())
    }

    async fn makes_and_unmakes(&self, before: &HashSet<String>) -> Result<Took, String> {
        let (first, second) = (&(self.spec)(), &(self.spec)());
        for spec in [first, second] {
            if before.contains(&spec.name) {
                return Err(format!("{} is there before it was asked for", spec.name));
            }
            self.delete("deleting what never was", &spec.name).await?;
        }
        self.tells_nothing_of_nobody().await?;

        let began = Instant::now();
        let made = self.ensure("making", first).await?;
        let making = began.elapsed();
        if made.name != first.name {
            return Err(format!("asked for {}, told of {}", first.name, made.name));
        }
        let shown = self.present(self.driver, &first.name).await?;
        let again = self.ensure("making what is there", first).await?;
        if again.presence == Presence::Absent || again.address != shown.address {
            return Err(format!("a repeated ensure told of another machine: {shown:?} and {again:?}"));
        }
        self.within("asking for evidence", self.driver.evidence(&first.name)).await?;

        let (a, b) = tokio::join!(self.ensure("making at once", second), self.ensure("making at once", second));
        a.and(b)?;
        let other = self.present(self.driver, &second.name).await?;
        if other.address.is_some() && other.address == shown.address && first.cluster == second.cluster {
            return Err(format!("two machines of one cluster have the address {:?}", other.address));
        }
        self.is_listed_once(&second.name).await?;
        self.is_found_by_a_successor(first, &shown).await?;

        let began = Instant::now();
        let (a, b) = tokio::join!(self.delete("deleting at once", &first.name), self.delete("deleting at once", &first.name));
        a.and(b)?;
        let unmaking = began.elapsed();
        self.delete("deleting what is gone", &first.name).await?;
        if !self.is_gone(&first.name).await? {
            return Err("a machine is listed after it was deleted".to_owned());
        }
        if !self.list().await?.iter().any(|o| o.name == second.name && o.presence == Presence::Present) {
            return Err("deleting one machine took another with it".to_owned());
        }
        // What one made the other unmakes.
        let gone = self.within("a successor's deleting", self.successor.delete(&second.name)).await?;
        gone.map_err(|e| said("a successor's deleting", &e))?;
        if !self.is_gone(&second.name).await? {
            return Err("a machine is listed after another server deleted it".to_owned());
        }
        Ok(Took { making, unmaking })
    }

    async fn tells_nothing_of_nobody(&self) -> Result<(), String> {
        match self.within("asking for evidence of nobody", self.driver.evidence(NOBODY)).await? {
            Some(told) => Err(format!("there is evidence of a machine that never was: {told}")),
            None => Ok(()),
        }
    }

    async fn is_found_by_a_successor(&self, spec: &MachineSpec, shown: &Observed) -> Result<(), String> {
        let seen = self.present(self.successor, &spec.name).await?;
        let again = self.within("a successor's making", self.successor.ensure(spec)).await?;
        let again = again.map_err(|e| said("a successor's making", &e))?;
        if [&seen, &again].iter().any(|o| o.address != shown.address) {
            return Err(format!("a driver that was built anew sees another machine: {shown:?}, {seen:?} and {again:?}"));
        }
        self.is_listed_once(&spec.name).await
    }

    async fn refuses_too_much(&self) -> Result<(), String> {
        for spec in &self.beyond {
            // The same each time: a refusal that left something behind might be forgotten by the next.
            for _ in 0..2 {
                match self.within("making too much", self.driver.ensure(spec)).await? {
                    Err(DriverError::Quota(_) | DriverError::Permanent(_)) => {}
                    Err(other) => return Err(said("too much is neither a quota nor a lasting fault", &other)),
                    Ok(made) => return Err(format!("more was made than there is: {made:?}")),
                }
            }
            let disk = match &spec.role {
                Role::FileServer(disk) => Some(&disk.name),
                Role::Node => None,
            };
            for name in [Some(&spec.name), disk].into_iter().flatten() {
                let what = format!("{name}, which was refused, is not listed");
                self.until(&what, async || Ok((!self.names().await?.contains(name)).then_some(()))).await?;
                self.delete("deleting what was refused", name).await?;
            }
        }
        Ok(())
    }

    /// Callers leave at any point of a call: with their deadline, or with the server that they were.
    async fn outlives_its_callers(&self, took: Took) -> Result<(), String> {
        let mut left = Vec::new();
        for part in DROPPED_AT {
            let spec = (self.spec)();
            let _ = tokio::time::timeout(took.making * part / 8, self.driver.ensure(&spec)).await;
            // Whatever came of it, the next one makes it, and once.
            self.ensured(&spec).await?;
            self.present(self.driver, &spec.name).await?;
            self.is_listed_once(&spec.name).await?;
            let _ = tokio::time::timeout(took.unmaking * part / 8, self.driver.delete(&spec.name)).await;
            self.unmade(&spec.name).await?;
            // Nobody asks for it any more: what comes of it late is listed, and goes as any stray does.
            let spec = (self.spec)();
            let _ = tokio::time::timeout(took.making * part / 8, self.driver.ensure(&spec)).await;
            self.unmade(&spec.name).await?;
            left.push(spec.name);
        }
        // A call that was left may begin late: it is looked for as long as several such calls take.
        let until = Instant::now() + took.making * LATE;
        while Instant::now() < until {
            for name in &left {
                self.unmade(name).await?;
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    async fn within<T>(&self, doing: &str, call: impl Future<Output = T>) -> Result<T, String> {
        let late = |_| format!("{doing} takes longer than {:?}", self.deadline);
        tokio::time::timeout(self.deadline, call).await.map_err(late)
    }

    async fn ensure(&self, doing: &str, spec: &MachineSpec) -> Result<Observed, String> {
        self.within(doing, self.driver.ensure(spec)).await?.map_err(|e| said(doing, &e))
    }

    async fn delete(&self, doing: &str, name: &str) -> Result<(), String> {
        self.within(doing, self.driver.delete(name)).await?.map_err(|e| said(doing, &e))
    }

    async fn list(&self) -> Result<Vec<Observed>, String> {
        Ok(self.within("listing", self.driver.list()).await?.map_err(|e| said("listing", &e))?.machines)
    }

    async fn names(&self) -> Result<HashSet<String>, String> {
        Ok(self.list().await?.into_iter().map(|o| o.name).collect())
    }

    async fn is_listed_once(&self, name: &str) -> Result<(), String> {
        match self.list().await?.iter().filter(|o| o.name == name).count() {
            1 => Ok(()),
            count => Err(format!("a machine that was asked for more than once is listed {count} times")),
        }
    }

    /// Waits until a machine shows as present: a driver may answer `ensure` before it is.
    async fn present(&self, driver: &dyn Driver, name: &str) -> Result<Observed, String> {
        self.until(&format!("{name} shows as present"), async || {
            let listed = driver.list().await.map_err(|e| said("listing", &e))?;
            Ok(listed.machines.into_iter().find(|o| o.name == name && o.presence == Presence::Present))
        })
        .await
    }

    /// Whether nothing is listed by a name but what is surely off: a far end may take its time to forget that.
    async fn is_gone(&self, name: &str) -> Result<bool, String> {
        Ok(self.list().await?.iter().all(|o| o.name != name || o.presence == Presence::Absent))
    }

    /// Makes a machine, tried again as a reconciler does: whoever left may be at work on it still.
    async fn ensured(&self, spec: &MachineSpec) -> Result<(), String> {
        self.until("making goes on after a caller left", async || sorted(self.driver.ensure(spec).await.map(drop))).await
    }

    /// Unmakes a machine until nothing of it is on: what was asked for before may come after.
    async fn unmade(&self, name: &str) -> Result<(), String> {
        self.until("unmaking goes on after a caller left", async || {
            let done = sorted(self.driver.delete(name).await)?.is_some();
            Ok((done && self.is_gone(name).await?).then_some(()))
        })
        .await
    }

    async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Result<Option<T>, String>) -> Result<T, String> {
        let seen = tokio::time::timeout(self.deadline, async {
            loop {
                if let Some(found) = look().await? {
                    return Ok(found);
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        seen.await.unwrap_or_else(|_| Err(format!("not within {:?}: {what}", self.deadline)))
    }
}

/// `None` where the caller is to try again.
fn sorted(done: Result<(), DriverError>) -> Result<Option<()>, String> {
    match done {
        Ok(()) => Ok(Some(())),
        Err(DriverError::Transient(_) | DriverError::Throttled(..)) => Ok(None),
        Err(lasting) => Err(said("after a caller left", &lasting)),
    }
}

fn said(doing: &str, error: &DriverError) -> String {
    format!("{doing}: {}", error.chain())
}
