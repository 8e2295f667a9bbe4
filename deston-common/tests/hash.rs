//! The client hash against an implementation of another house.

use std::net::IpAddr;

use deston_common::hash::{self, Seed};
use proptest::prelude::*;
use siphasher::sip::SipHasher13;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn it_is_siphash_1_3_of_the_sixteen_bytes(k0: u64, k1: u64, octets: [u8; 16]) {
        let expected = SipHasher13::new_with_keys(k0, k1).hash(&octets);
        prop_assert_eq!(hash::client(Seed { k0, k1 }, IpAddr::from(octets)), expected);
    }
}
