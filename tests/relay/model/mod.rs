//! A model test: beside the real relay runs a simple one, written from the text of RFC 8656 and RFC 6062, and both
//! must agree in every output, whatever happens in whatever order.
//!
//! ```text
//!             ┌─► reference.rs, peers.rs   plain maps, obviously right ──► what must come out ─┐
//!  Setup, Op ─┤                                                                               ├─ equal?
//!             └─► runner.rs ──► turn::Server ───────────────────────► what comes out ─────────┘
//! ```
//!
//! `operations.rs` says what can happen. A sequence is made from plain bytes, so that proptest here and the fuzzer
//! (`fuzz/fuzz_targets/operations.rs`) share one way to make it.

mod operations;
mod peers;
mod reference;
mod runner;

pub use operations::{Op, Setup};
pub use runner::run;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::operations::Ops;
    use super::{Op, Setup, run};

    /// 10,000 sequences unless `PROPTEST_CASES` says otherwise. What fails is written, shrunk, to
    /// `tests/relay/model/mod.proptest-regressions`: commit it, and it is tried first from then on.
    fn config() -> ProptestConfig {
        let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
        let beside = proptest::test_runner::FileFailurePersistence::WithSource("proptest-regressions");
        ProptestConfig {
            cases,
            max_shrink_iters: 20_000,
            failure_persistence: Some(Box::new(beside)),
            ..ProptestConfig::default()
        }
    }

    fn decode(setup: [u8; Setup::BYTES], ops: Vec<[u8; Op::BYTES]>) -> (Setup, Ops) {
        let setup = Setup::decode(setup);
        (setup, Ops(ops.into_iter().map(|op| Op::decode(setup.focus, op)).collect()))
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn the_relay_does_what_the_model_says(
            (setup, ops) in (any::<[u8; Setup::BYTES]>(), prop::collection::vec(any::<[u8; Op::BYTES]>(), 1..120))
                .prop_map(|(setup, ops)| decode(setup, ops)),
        ) {
            run(&setup, &ops.0);
        }
    }
}
