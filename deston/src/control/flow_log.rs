//! The flow log: a line for each flow of the kernel datapath that has ended, on the standard output.

use std::io::{self, Write as _};

use deston_common::event::Ended;
use deston_common::hash::{self, Seed};

use crate::datapath::OnEnded;
use crate::explain::{Clock, ended_record};
use crate::model::{Access, Log};

/// What writes the lines; `None` if nobody wants them.
pub(super) fn writer(log: &Log) -> Option<OnEnded> {
    let sample = match log.access {
        Access::Off => return None,
        Access::Json => log.sample,
    };
    let mut is_broken = false;
    Some(Box::new(move |ended, server| {
        if is_broken || !is_chosen(ended, sample) {
            return;
        }
        let line = ended_record(ended, server, &Clock::now());
        if let Err(error) = writeln!(io::stdout(), "{line}") {
            tracing::error!(%error, "the flow log has ended: nobody reads the standard output");
            is_broken = true;
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

    #[test]
    fn without_a_form_nothing_is_written() {
        assert!(writer(&Log { access: Access::Off, sample: 1_000_000 }).is_none());
        assert!(writer(&Log { access: Access::Json, sample: 1 }).is_some());
    }
}
