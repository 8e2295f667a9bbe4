//! Incremental checksums against a sum over the whole data.

use deston_common::checksum::Change;
use proptest::prelude::*;

/// RFC 1071, section 4.1, computed from scratch over words as they stand in memory.
fn whole(words: &[u16]) -> u16 {
    let mut sum: u32 = words.iter().map(|word| u32::from(*word)).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Whether two checksums mean the same: in one's complement, zero has two forms.
fn same(one: u16, other: u16) -> bool {
    one == other || (one == 0 && other == 0xffff) || (one == 0xffff && other == 0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn a_changed_word_changes_the_checksum_as_a_new_sum_would(
        mut words in prop::collection::vec(any::<u16>(), 1..40),
        place in any::<prop::sample::Index>(),
        to in any::<u16>(),
    ) {
        let before = whole(&words);
        let place = place.index(words.len());
        let from = words[place];
        words[place] = to;
        let after = Change::none().word16(from, to).apply(before);
        prop_assert!(same(after, whole(&words)), "{after:#x} {:#x}", whole(&words));
    }

    #[test]
    fn a_whole_tuple_can_change_at_once(
        from in any::<[u16; 6]>(),
        to in any::<[u16; 6]>(),
        rest in prop::collection::vec(any::<u16>(), 1..20),
    ) {
        let sum = |tuple: &[u16]| whole(&[tuple, &rest[..]].concat());
        let wide = |a: u16, b: u16| u32::from(b) << 16 | u32::from(a);
        let change = Change::none()
            .word32(wide(from[0], from[1]), wide(to[0], to[1]))
            .word32(wide(from[2], from[3]), wide(to[2], to[3]))
            .word16(from[4], to[4])
            .word16(from[5], to[5]);
        prop_assert!(same(change.apply(sum(&from)), sum(&to)));
    }

    #[test]
    fn a_udp_checksum_never_becomes_the_mark_of_none(
        from in any::<u16>(), to in any::<u16>(), checksum in 1_u16..,
    ) {
        prop_assert_ne!(Change::none().word16(from, to).apply_udp(checksum), 0);
    }
}

#[test]
fn an_absent_udp_checksum_stays_absent() {
    assert_eq!(Change::none().word16(1, 2).apply_udp(0), 0);
}
