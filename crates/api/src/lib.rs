//! The admin surface: resources, the admin API and its client, token redemption over HTTP.
