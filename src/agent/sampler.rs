//! When it is looked what a job uses of the node, and what is yet to be told of it.
//!
//! A job's first minutes are looked at often and the rest of a long life seldom, so that any job has a few thousand samples at most. A node
//! without a job is not looked at, and a job that is over at once costs no look. Looks are beside the loop.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::agent::meter::Meter;
use crate::clock::Timestamp;
use crate::domain::sample::{MOST, Sample};
use crate::id::AttemptUid;

/// So many that wait go in a report of their own; others go with what is said anyhow.
const ENOUGH: usize = 5;

/// When a job is looked at first, from when it was seen to run.
const FIRST: Duration = Duration::from_millis(500);

/// Time between two looks at a job that has run for so long: up to the first, this; and so on.
const PACE: [(Duration, Duration); 4] = [
    (Duration::from_secs(60), Duration::from_secs(2)),
    (Duration::from_secs(600), Duration::from_secs(5)),
    (Duration::from_secs(7_200), Duration::from_secs(15)),
    (Duration::MAX, Duration::from_secs(60)),
];

/// Looks at one attempt at a time.
pub(super) struct Sampler {
    /// `None` while it looks.
    meter: Option<Box<Meter>>,
    /// The attempt that is looked at, since when, and when next.
    current: Option<(AttemptUid, Instant, Instant)>,
    waiting: VecDeque<Sample>,
}

impl Sampler {
    pub(super) fn new(meter: Meter) -> Sampler {
        Sampler { meter: Some(Box::new(meter)), current: None, waiting: VecDeque::new() }
    }

    /// Takes in which attempt has the node. Answers the meter where it is to look now, else when it is.
    pub(super) fn look(
        &mut self,
        running: Option<AttemptUid>,
        now: Instant,
    ) -> Result<(AttemptUid, Box<Meter>), Option<Instant>> {
        let Some(attempt) = running else {
            self.current = None;
            return Err(None);
        };
        if self.current.is_none_or(|(known, ..)| known != attempt) {
            self.current = Some((attempt, now, now + FIRST));
            if let Some(meter) = &mut self.meter {
                meter.begin();
            }
        }
        let Some((_, since, due)) = &mut self.current else { return Err(None) };
        if *due > now {
            return Err(Some(*due));
        }
        // One that looks for longer than that is not overtaken: it comes back first.
        let Some(meter) = self.meter.take() else { return Err(None) };
        *due = now + pace(now - *since);
        Ok((attempt, meter))
    }

    /// Takes the meter back, with what it found.
    pub(super) fn looked(&mut self, meter: Box<Meter>, sample: Option<Sample>) {
        self.meter = Some(meter);
        if let Some(sample) = sample.filter(|sample| self.waiting.back().is_none_or(|last| last.at < sample.at)) {
            if self.waiting.len() >= MOST {
                self.waiting.pop_front();
            }
            self.waiting.push_back(sample);
        }
    }

    /// What is yet to be told, in order.
    pub(super) fn waiting(&self) -> Vec<Sample> {
        self.waiting.iter().cloned().collect()
    }

    /// Whether so much waits that a report is due.
    pub(super) fn is_to_send(&self) -> bool {
        self.waiting.len() >= ENOUGH
    }

    /// All up to that time is told.
    pub(super) fn told(&mut self, until: Timestamp) {
        self.waiting.retain(|sample| sample.at > until);
    }
}

fn pace(age: Duration) -> Duration {
    PACE.iter().find(|(until, _)| age < *until).map_or(Duration::from_secs(60), |(_, pace)| *pace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample::Used;

    fn sampler() -> Sampler {
        Sampler::new(Meter::of_nothing())
    }

    fn attempt(number: u128) -> AttemptUid {
        AttemptUid(uuid::Uuid::from_u128(number))
    }

    fn sample(second: i64) -> Sample {
        let at = Timestamp::UNIX_EPOCH + time::Duration::seconds(second);
        Sample { attempt_uid: attempt(1), at, used: Used::default() }
    }

    #[test]
    fn an_idle_node_is_never_looked_at_and_a_long_job_seldom() {
        let (mut sampler, began, mut looks) = (sampler(), Instant::now(), 0);
        assert_eq!(sampler.look(None, began).err(), Some(None));
        assert_eq!(
            sampler.look(Some(attempt(1)), began).err(),
            Some(Some(began + FIRST)),
            "one that is over by then costs no look"
        );
        let (mut now, day) = (began + FIRST, began + Duration::from_secs(86_400));
        while now < day {
            let (_, meter) = sampler.look(Some(attempt(1)), now).expect("is due");
            sampler.looked(meter, None);
            looks += 1;
            now = sampler.look(Some(attempt(1)), now).err().flatten().expect("later");
        }
        assert!((1_500..2_500).contains(&looks), "{looks} of a day");
        assert_eq!(sampler.look(Some(attempt(2)), now).err(), Some(Some(now + FIRST)), "another begins anew");
    }

    #[test]
    fn what_was_told_is_not_told_again_and_what_nobody_hears_is_bounded() {
        let mut sampler = sampler();
        for second in 0..1_000 {
            sampler.looked(Box::new(Meter::of_nothing()), Some(sample(second)));
        }
        assert_eq!((sampler.waiting().len(), sampler.waiting()[0].clone()), (MOST, sample(1_000 - MOST as i64)));
        assert!(sampler.is_to_send());
        sampler.told(sample(997).at);
        assert_eq!(sampler.waiting(), [sample(998), sample(999)]);
        sampler.looked(Box::new(Meter::of_nothing()), Some(sample(999)));
        assert_eq!(sampler.waiting().len(), 2, "a second has one");
    }
}
