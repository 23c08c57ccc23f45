//! What a payload holds, for people and for scripts.
