//! What an operator sets, validated.
