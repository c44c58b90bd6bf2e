//! Tokens that nobody guesses.

use base64::Engine as _;
use ring::rand::SecureRandom as _;

/// A token of 256 random bits, in letters that need no quoting.
///
/// # Errors
/// When the system has no random numbers.
pub fn random_token() -> std::io::Result<String> {
    let mut bytes = [0; 32];
    ring::rand::SystemRandom::new().fill(&mut bytes).map_err(|_| std::io::Error::other("the system has no random numbers"))?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}
