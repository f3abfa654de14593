//! Decides and signs: desired credentials, reconcile, enrol, renew.
