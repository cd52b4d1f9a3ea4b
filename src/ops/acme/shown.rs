//! What the listeners show, with what is known of it: reports tell of this, wherever it came from.

use std::sync::{Arc, Mutex, PoisonError};

use super::certificate::Certificate;
use crate::net::tls::{self, Certificates, TlsError};

/// One for all plans of a daemon's life.
pub(super) struct Shown {
    pub listeners: Arc<Certificates>,
    /// `None`: the self-signed one.
    current: Mutex<Option<Certificate>>,
}

impl Shown {
    /// A self-signed certificate for these names.
    pub(super) fn self_signed(names: Vec<String>) -> Result<Self, TlsError> {
        let listeners = Certificates::new(tls::self_signed_pair(names)?);
        Ok(Self { listeners, current: Mutex::default() })
    }

    /// Shows this one from now on.
    pub(super) fn exchange(&self, next: &Certificate) {
        self.listeners.exchange(next.shown.clone());
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(next.clone());
    }

    pub(super) fn current(&self) -> Option<Certificate> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
