//! Reading allocates nothing, whatever is read.

use proptest::prelude::*;

use crate::counting::calls;
use crate::noise::read_everything;
use crate::{any, vectors};

#[test]
fn reading_the_vectors_allocates_nothing() {
    for (bytes, key) in vectors::all() {
        assert_eq!(calls(|| read_everything(&bytes, &key)), 0);
    }
}

proptest! {
    #![proptest_config(any::cases(500))]

    #[test]
    fn reading_allocates_nothing(bytes in prop_oneof![any::message(), any::mutated_message()]) {
        prop_assert_eq!(calls(|| read_everything(&bytes, b"key")), 0);
    }
}
