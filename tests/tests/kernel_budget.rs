//! What the verifier has to do.

use deston::datapath::Kernel;
use deston_tests::kernel::{Lab, Setting};
use deston_tests::require_kernel;

/// The kernel's limit is 1,000,000; a large step towards it is a design fault to notice early.
const BUDGET: u32 = 500_000;

#[test]
fn the_programs_stay_within_the_budget_of_verified_instructions() {
    require_kernel!();
    let lab = Lab::new(Setting::XDP4);
    for name in Kernel::PROGRAMS {
        let verified = lab.kernel.verified_instructions(name).unwrap().expect("Linux 5.16 tells");
        let code = lab.kernel.machine_code(name).unwrap();
        println!("{name}: {code} bytes of machine code, {verified} verified instructions");
        assert!(verified <= BUDGET, "{name}: {verified} instructions verified, budget {BUDGET}");
    }
}
