//! Single stories, each about one promise.
