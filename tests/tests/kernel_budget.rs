//! What the verifier has to do.

use deston_tests::kernel::Lab;
use deston_tests::require_kernel;

/// The kernel's limit is 1,000,000; a large step towards it is a design fault to notice early.
const BUDGET: u32 = 200_000;

#[test]
fn the_balancer_stays_within_the_budget_of_verified_instructions() {
    require_kernel!();
    let lab = Lab::new(1);
    let verified = lab.kernel.verified_instructions().unwrap().expect("Linux 5.16 tells");
    println!("verified instructions: {verified}");
    assert!(verified <= BUDGET, "{verified} instructions verified, budget {BUDGET}");
}
