//! What a message allocates in the steady state.
