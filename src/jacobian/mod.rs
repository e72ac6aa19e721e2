//! jacobian
