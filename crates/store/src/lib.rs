//! Where credentials and the ledger live, and how a change is noticed.
