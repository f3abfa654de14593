//! Where accepted records lie until nobody needs them: appended, flushed together, repaired after a
//! crash.
