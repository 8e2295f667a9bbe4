//! Shares of requests between pools.

/// Pools that share requests by weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// At least one; not all weights are 0.
    pub shares: Vec<Share>,
}

/// One pool's share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The pool's name.
    pub pool: String,
    /// Of the sum of all weights; 0: no request.
    pub weight: u16,
}

impl Split {
    /// Which share has turn `turn`: of as many turns in a row as the weights sum up to, each share
    /// has exactly its weight, spread as evenly as whole turns allow.
    pub fn turn(&self, turn: u64) -> Option<usize> {
        let mut left: u64 = self.shares.iter().map(|share| u64::from(share.weight)).sum();
        // The place of the turn among those of the shares that are left.
        let mut place = turn.checked_rem(left)?;
        for (index, share) in self.shares.iter().enumerate() {
            let weight = u64::from(share.weight);
            let before = (place * weight).div_ceil(left);
            if ((place + 1) * weight).div_ceil(left) > before {
                return Some(index);
            }
            place -= before;
            left -= weight;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn split(weights: &[u16]) -> Split {
        let share = |&weight| Share { pool: "p".to_owned(), weight };
        Split { shares: weights.iter().map(share).collect() }
    }

    fn turns(weights: &[u16], count: u64) -> Vec<usize> {
        (0..count).map(|turn| split(weights).turn(turn).unwrap()).collect()
    }

    #[test]
    fn a_small_share_comes_once_in_its_time() {
        assert_eq!(turns(&[90, 10], 10), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(turns(&[2, 1], 6), [0, 0, 1, 0, 0, 1]);
        assert_eq!(turns(&[1, 1], 4), [0, 1, 0, 1]);
    }

    #[test]
    fn a_share_of_zero_has_no_turn() {
        assert_eq!(turns(&[0, 3], 3), [1, 1, 1]);
        assert_eq!(split(&[0, 0]).turn(0), None);
    }

    proptest! {
        #[test]
        fn each_share_has_its_weight_of_every_cycle(
            weights in vec(0_u16..40, 1..6),
            first in 0_u64..1_000,
        ) {
            let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
            prop_assume!(sum > 0);
            let split = split(&weights);
            let mut had = vec![0_u16; weights.len()];
            for turn in first * sum..(first + 1) * sum {
                had[split.turn(turn).unwrap()] += 1;
            }
            prop_assert_eq!(had, weights);
        }

        #[test]
        fn no_share_waits_longer_than_its_weight_asks(weight in 1_u16..100, rest in 1_u16..100) {
            let sum = u64::from(weight) + u64::from(rest);
            let longest = sum.div_ceil(weight.into());
            let split = split(&[weight, rest]);
            let had: Vec<u64> = (0..2 * sum).filter(|&t| split.turn(t) == Some(0)).collect();
            prop_assert!(had.windows(2).all(|two| two[1] - two[0] <= longest));
        }
    }
}
