//! One call of the driver, and what its answer means.

use crate::driver::{Driver, DriverError};
use crate::reconcile::memory::{Answer, Failure, FailureKind};
use crate::reconcile::plan::Effect;

/// Does what was decided. Safe to drop at any await and to repeat.
pub(in crate::reconcile) async fn act(driver: &dyn Driver, effect: &Effect) -> Answer {
    match effect {
        Effect::Ensure(spec) => match driver.ensure(spec).await {
            Ok(seen) => Answer::Made(seen),
            Err(error) => {
                tracing::warn!(machine.name = %spec.name, error = %error.chain(), "a machine was not made");
                Answer::NotMade(failure(&error))
            }
        },
        Effect::Explain { name, .. } => Answer::Explained(driver.evidence(name).await),
        Effect::Delete { name, why, .. } => {
            tracing::debug!(machine.name = %name, why = ?why, "a machine is deleted");
            match driver.delete(name).await {
                Ok(()) => Answer::Deleted,
                Err(error) => {
                    tracing::warn!(machine.name = %name, error = %error.chain(), "a machine was not deleted");
                    Answer::NotDeleted
                }
            }
        }
    }
}

/// What it means that the driver did not answer in time: nothing is known of the machine, and it is tried again.
pub(in crate::reconcile) fn no_answer(effect: &Effect) -> Answer {
    match effect {
        Effect::Ensure(_) => {
            Answer::NotMade(Failure { kind: FailureKind::Passing, text: "the driver did not answer in time".into() })
        }
        Effect::Explain { .. } => Answer::Explained(None),
        Effect::Delete { .. } => Answer::NotDeleted,
    }
}

fn failure(error: &DriverError) -> Failure {
    let kind = match error {
        DriverError::Quota(_) => FailureKind::Quota,
        DriverError::Throttled(pause, _) => FailureKind::Throttled(*pause),
        DriverError::Transient(_) => FailureKind::Passing,
        DriverError::Permanent(_) | DriverError::Conflict(_) => FailureKind::Lasting,
    };
    Failure { kind, text: error.chain() }
}
