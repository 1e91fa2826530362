//! Comparing what varies: two samples, one from each world, which should come from one distribution.
//!
//! The measure is that of Kolmogorov and Smirnov: the largest distance between the two shares of numbers up to x, over
//! all x. For two samples of one distribution it exceeds `1.95 * sqrt((n + m) / (n * m))` once in a thousand times,
//! whatever that distribution is; that is the bound. Thirty numbers of each tell a distance of about one half: a
//! sweep that is never late from one that is, not a mean of 160 ms from one of 170.
//!
//! A real machine has neighbours, who make it later and never earlier. So the real numbers may be larger by up to a slack,
//! which the case states.

use std::fmt;

/// Exceeded once in a thousand times where the distributions are one.
const ONE_IN_A_THOUSAND: f64 = 1.95;

/// Numbers that vary, of one world.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What they are.
    pub name: String,
    /// In any order.
    pub numbers: Vec<f64>,
    /// By how much the real ones may be larger.
    pub slack: f64,
}

impl Sample {
    /// The number below which this share of them lies.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.numbers.clone();
        sorted.sort_by(f64::total_cmp);
        let place = (share * sorted.len() as f64) as usize;
        let last = sorted.len().saturating_sub(1);
        sorted.get(place.min(last)).copied().unwrap_or(f64::NAN)
    }

    /// Why these cannot well be of one distribution, if so.
    pub fn differs_from(&self, real: &Self) -> Option<Distance> {
        let found = distance(&self.numbers, &real.numbers, self.slack.max(real.slack));
        let (n, m) = (self.numbers.len() as f64, real.numbers.len() as f64);
        let bound = ONE_IN_A_THOUSAND * ((n + m) / (n * m)).sqrt();
        // An empty sample has an infinite bound, and is a finding all the same.
        (found > bound || n * m == 0.0).then_some(Distance { found, bound })
    }
}

/// Its quartiles and ends.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of", self.numbers.len())?;
        for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
            write!(f, " {:.1}", self.quantile(share))?;
        }
        Ok(())
    }
}

/// How far apart two samples are, and how far chance may take them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distance {
    /// The largest distance between the two shares.
    pub found: f64,
    /// What chance exceeds once in a thousand times.
    pub bound: f64,
}

/// The largest distance between the shares of both up to any number, where `late` may be larger by up to `slack`.
fn distance(early: &[f64], late: &[f64], slack: f64) -> f64 {
    let share = |numbers: &[f64], limit: f64| {
        let below = numbers.iter().filter(|number| **number <= limit).count();
        below as f64 / numbers.len() as f64
    };
    let too_late = |x: f64| share(early, x) - share(late, x + slack);
    let too_early = |x: f64| share(late, x) - share(early, x);
    let all = early.iter().chain(late).copied();
    let shifted = late.iter().map(|x| x - slack);
    let at = all.chain(shifted);
    at.map(|x| too_late(x).max(too_early(x)))
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use squall_core::Rng;

    use super::*;

    fn sample(numbers: Vec<f64>) -> Sample {
        Sample {
            name: "x".to_owned(),
            numbers,
            slack: 0.0,
        }
    }

    fn uniform(seed: u64, n: usize, from: f64, to: f64) -> Sample {
        let mut rng = Rng::new(seed);
        let mut draw = || from + (to - from) * rng.below(1_000_000) as f64 / 1e6;
        sample((0..n).map(|_| draw()).collect())
    }

    /// One distribution is told for another no more often than stated.
    #[test]
    fn one_distribution_is_rarely_taken_for_two() {
        let taken = (0..2_000).filter(|&seed| {
            let (one, other) = (
                uniform(2 * seed, 40, 0.0, 1.0),
                uniform(2 * seed + 1, 60, 0.0, 1.0),
            );
            one.differs_from(&other).is_some()
        });
        assert!(taken.count() <= 6);
    }

    #[test]
    fn two_distributions_are_told_apart() {
        let late = uniform(1, 40, 0.0, 300.0);
        let prompt = uniform(2, 40, 0.0, 3.0);
        assert!(prompt.differs_from(&late).is_some());
        assert!(late.differs_from(&prompt).is_some());
        assert!(late.differs_from(&sample(Vec::new())).is_some());
    }

    /// The real world may be late by the slack, and not early by it.
    #[test]
    fn slack_forgives_lateness_only() {
        let mut simulated = uniform(1, 60, 0.0, 10.0);
        simulated.slack = 50.0;
        let real = uniform(2, 60, 40.0, 50.0);
        assert_eq!(simulated.differs_from(&real), None);
        let mut swapped = real.clone();
        swapped.slack = 50.0;
        assert!(swapped.differs_from(&uniform(3, 60, 0.0, 10.0)).is_some());
    }

    #[test]
    fn quantiles_are_of_the_sorted_sample() {
        let five = sample(vec![5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!(
            (five.quantile(0.0), five.quantile(0.5), five.quantile(1.0)),
            (1.0, 3.0, 5.0)
        );
        assert_eq!(five.to_string(), "5 of 1.0 2.0 3.0 4.0 5.0");
    }
}
