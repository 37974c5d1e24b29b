//! What every driver must keep, whatever a machine is to it. Run by the tests of each driver on the driver itself.

use std::time::Duration;

use crate::domain::machine::{MachineSpec, Observed, Presence};
use crate::driver::{Driver, DriverError};

/// Longest time that a driver may take to show what it was asked for.
const DEADLINE: Duration = Duration::from_secs(30);

/// Checks a driver with two specs of different names: making twice, making at once, listing, unmaking twice, strangers untouched.
/// Leaves nothing of the two behind when it succeeds.
///
/// # Errors
/// The rule that was broken, as a sentence.
pub async fn check(driver: &dyn Driver, first: &MachineSpec, second: &MachineSpec) -> Result<(), String> {
    let before = names(driver).await?;
    for spec in [first, second] {
        if before.contains(&spec.name) {
            return Err(format!("{} is there before it was asked for", spec.name));
        }
        driver.delete(&spec.name).await.map_err(|e| said("deleting what never was", &e))?;
    }

    let made = driver.ensure(first).await.map_err(|e| said("making", &e))?;
    if made.name != first.name {
        return Err(format!("asked for {}, told of {}", first.name, made.name));
    }
    let shown = present(driver, &first.name).await?;
    let again = driver.ensure(first).await.map_err(|e| said("making what is there", &e))?;
    if again.presence == Presence::Absent || again.address != shown.address {
        return Err(format!("a repeated ensure told of another machine: {shown:?} and {again:?}"));
    }

    let (a, b) = tokio::join!(driver.ensure(second), driver.ensure(second));
    a.map_err(|e| said("making at once", &e))?;
    b.map_err(|e| said("making at once", &e))?;
    let other = present(driver, &second.name).await?;
    if other.address.is_some() && other.address == shown.address && first.cluster == second.cluster {
        return Err(format!("two machines of one cluster have the address {:?}", other.address));
    }
    if listed(driver).await?.iter().filter(|o| o.name == second.name).count() != 1 {
        return Err("a machine that was asked for twice at once is listed more than once".to_owned());
    }

    let (a, b) = tokio::join!(driver.delete(&first.name), driver.delete(&first.name));
    a.map_err(|e| said("deleting at once", &e))?;
    b.map_err(|e| said("deleting at once", &e))?;
    driver.delete(&first.name).await.map_err(|e| said("deleting what is gone", &e))?;
    let now = listed(driver).await?;
    if now.iter().any(|o| o.name == first.name && o.presence != Presence::Absent) {
        return Err("a machine is listed after it was deleted".to_owned());
    }
    if !now.iter().any(|o| o.name == second.name && o.presence == Presence::Present) {
        return Err("deleting one machine took another with it".to_owned());
    }

    driver.delete(&second.name).await.map_err(|e| said("deleting", &e))?;
    let after = names(driver).await?;
    match before.iter().find(|name| !after.contains(name)) {
        Some(lost) => Err(format!("{lost} is gone, though nobody asked for that")),
        None => Ok(()),
    }
}

async fn listed(driver: &dyn Driver) -> Result<Vec<Observed>, String> {
    driver.list().await.map_err(|e| said("listing", &e))
}

async fn names(driver: &dyn Driver) -> Result<Vec<String>, String> {
    Ok(listed(driver).await?.into_iter().map(|o| o.name).collect())
}

/// Waits until a machine shows as present: a driver may answer `ensure` before it is.
async fn present(driver: &dyn Driver, name: &str) -> Result<Observed, String> {
    let shown = tokio::time::timeout(DEADLINE, async {
        loop {
            if let Some(found) = listed(driver).await?.into_iter().find(|o| o.name == name && o.presence == Presence::Present) {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    shown.await.unwrap_or_else(|_| Err(format!("{name} does not show as present within {DEADLINE:?}")))
}

fn said(doing: &str, error: &DriverError) -> String {
    format!("{doing}: {}", error.chain())
}
