//! Farrier for Rust programs: the client of a ZooKeeper ensemble, Farrier's or Apache's, what people build on it, and
//! with the feature `testing` an ensemble within the process to test against.
//!
//! [`Client`] is the way in; everything of the crate `farrier-client` is here under the same names. Locks, elections and the
//! other recipes are in [`recipes`].

#[doc(inline)]
pub use farrier_client::*;
#[doc(inline)]
pub use farrier_recipes as recipes;

#[cfg(feature = "testing")]
pub mod testing;

/// The programs in README and in the book are compiled, and run where they need no server of others.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../../README.md")]
    struct Readme;
    #[doc = include_str!("../../../docs/getting-started.md")]
    struct GettingStarted;
}
