//! The flow log: a line for each flow of the kernel datapath that has ended, in the access log.

use deston_common::event::Ended;
use deston_common::hash::{self, Seed};

use crate::access::Lines;
use crate::datapath::OnEnded;
use crate::explain::{Clock, ended_record};

/// What gives the lines to the access log; `None` if nobody wants them. `sample` is the share of the
/// flows that are written, in millionths.
pub(super) fn writer(lines: Option<Lines>, sample: u32) -> Option<OnEnded> {
    let lines = lines?;
    Some(Box::new(move |ended, server| {
        if is_chosen(ended, sample) {
            lines.push(ended_record(ended, server, &Clock::now()).to_string());
        }
    }))
}

/// Whether a flow is among the `sample` of a million. The same flow always is, or never.
fn is_chosen(ended: &Ended, sample: u32) -> bool {
    const ALL: u64 = 1_000_000;
    let seed = Seed { k0: ended.opened_ns, k1: 0 };
    hash::flow(seed, &ended.flow) % ALL < u64::from(sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(sample: u32) -> usize {
        let flows = (0..10_000).map(|opened_ns| Ended { opened_ns, ..Ended::default() });
        flows.filter(|ended| is_chosen(ended, sample)).count()
    }

    #[test]
    fn a_sample_is_its_share_of_the_flows() {
        assert_eq!((chosen(0), chosen(1_000_000)), (0, 10_000));
        let quarter = chosen(250_000);
        assert!((2_300..2_700).contains(&quarter), "{quarter} of 10,000");
    }
}
