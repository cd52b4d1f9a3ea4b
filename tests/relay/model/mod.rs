//! A model test: beside the real relay runs a simple one, written from the text of RFC 8656 and RFC 6062, and both
//! must agree in every output, whatever happens in whatever order.
//!
//! ```text
//!             ┌─► reference.rs and others  plain maps, obviously right ──► what must come out ─┐
//!  Setup, Op ─┤                                                                               ├─ equal?
//!             └─► runner.rs ──► turn::Server ───────────────────────► what comes out ─────────┘
//! ```
//!
//! `operations.rs` says what can happen. A sequence is made from plain bytes, so that proptest here and the fuzzer
//! (`fuzz/fuzz_targets/operations.rs`) share one way to make it.

mod mobility;
mod operations;
mod peers;
mod reference;
mod runner;

pub use operations::{Op, Setup};
pub use runner::run;

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::hash::{BuildHasher, RandomState};
    use std::panic;

    use proptest::prelude::*;
    use proptest::test_runner::{FileFailurePersistence, RngSeed};

    use super::operations::Ops;
    use super::{Op, Setup, run};

    /// 10,000 sequences, about 20 s; `PROPTEST_CASES` says how many else. A failure tells the `PROPTEST_RNG_SEED` that
    /// makes the same sequences again, and is written, shrunk, to `tests/relay/model/mod.proptest-regressions`: with
    /// that file committed it is tried first from then on.
    fn config() -> ProptestConfig {
        let default = ProptestConfig::default();
        let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
        let seed = match default.rng_seed {
            RngSeed::Fixed(seed) => seed,
            RngSeed::Random => RandomState::new().hash_one(0),
        };
        println!("PROPTEST_RNG_SEED={seed}");
        ProptestConfig {
            cases,
            max_shrink_iters: 20_000,
            rng_seed: RngSeed::Fixed(seed),
            failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("proptest-regressions"))),
            ..default
        }
    }

    fn decode(setup: [u8; Setup::BYTES], ops: Vec<[u8; Op::BYTES]>) -> (Setup, Ops) {
        let setup = Setup::decode(setup);
        (setup, Ops(ops.into_iter().map(|op| Op::decode(setup.focus, op)).collect()))
    }

    thread_local! {
        static QUIET: Cell<bool> = const { Cell::new(false) };
    }

    /// Shrinking fails hundreds of times; only the last message is of interest.
    fn quietly(f: impl FnOnce() + panic::UnwindSafe) -> Result<(), TestCaseError> {
        static HOOK: std::sync::Once = std::sync::Once::new();
        HOOK.call_once(|| {
            let loud = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                if !QUIET.get() {
                    loud(info)
                }
            }));
        });
        QUIET.set(true);
        let result = panic::catch_unwind(f);
        QUIET.set(false);
        let text = |payload: &Box<dyn std::any::Any + Send>| match payload.downcast_ref::<String>() {
            Some(text) => text.clone(),
            None => payload.downcast_ref::<&str>().unwrap_or(&"a panic").to_string(),
        };
        result.map_err(|payload| TestCaseError::fail(text(&payload)))
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn the_relay_does_what_the_model_says(
            (setup, ops) in (any::<[u8; Setup::BYTES]>(), prop::collection::vec(any::<[u8; Op::BYTES]>(), 1..120))
                .prop_map(|(setup, ops)| decode(setup, ops)),
        ) {
            quietly(|| run(&setup, &ops.0))?;
        }
    }
}
