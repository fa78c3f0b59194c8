//! Session identifiers and passwords, computed exactly as every Apache server computes them, so that
//! a session can move between servers of either kind.

use crate::limits::PASSWORD_LEN;
use crate::{ServerId, SessionId};

const PASSWORD_SEED: i64 = 0xb341_5c00;

/// The password of a session: `java.util.Random(id ^ 0xB3415C00).nextBytes(16)`.
///
/// A checksum, not a secret: whoever knows the id can compute it.
#[must_use]
pub fn password(id: SessionId) -> [u8; PASSWORD_LEN] {
    const MULTIPLIER: u64 = 0x5_deec_e66d;
    const MASK: u64 = (1 << 48) - 1;
    let mut state = ((id.0 ^ PASSWORD_SEED).cast_unsigned() ^ MULTIPLIER) & MASK;
    let mut out = [0; PASSWORD_LEN];
    for chunk in out.chunks_exact_mut(4) {
        state = state.wrapping_mul(MULTIPLIER).wrapping_add(0xb) & MASK;
        let word = ((state >> 16) & 0xffff_ffff) as u32;
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    out
}

/// Whether `given` is the session's password; id 0 has none.
#[must_use]
pub fn password_matches(id: SessionId, given: Option<&[u8]>) -> bool {
    id != SessionId::NONE && given == Some(password(id).as_slice())
}

/// The first session id that a server hands out: its own id in the top byte, then the low 40 bits of a
/// millisecond clock, then 16 zero bits to count up in.
#[must_use]
pub const fn first_session_id(server: ServerId, millis: i64) -> SessionId {
    let low = ((millis.cast_unsigned() << 24) >> 8) & 0x00ff_ffff_ffff_ffff;
    let id = (low | (server.0.cast_unsigned() << 56)).cast_signed();
    // The owner field of a container must not be anybody's session.
    if id == i64::MIN { SessionId(id + 1) } else { SessionId(id) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_the_reference() {
        let cases: [(u64, u128); 5] = [
            (0x1, 0x054c_c74a_3732_7db2_15e7_02e2_0c73_f005),
            (0x1234, 0x3c18_abe0_5b0e_6182_741d_625d_127c_15b0),
            (0x0100_0012_3456_0000, 0x28dc_a4e8_95de_729d_466f_3f4d_668d_25c0),
            (u64::MAX, 0x20f6_2cb5_648d_c2d7_7147_1c8a_2486_a9ee),
            (1 << 63, 0xf22a_cd4a_97e6_9d6d_20a4_9bb6_38ea_db38),
        ];
        for (id, want) in cases {
            assert_eq!(u128::from_be_bytes(password(SessionId(id.cast_signed()))), want, "{id:#x}");
        }
    }

    #[test]
    fn ids_carry_the_server() {
        let id = first_session_id(ServerId(1), 0x1234_5678_9abc);
        assert_eq!(id.0, 0x0134_5678_9abc_0000);
        assert!(first_session_id(ServerId(200), 5).0 < 0);
        assert_eq!(first_session_id(ServerId(0x80), 0).0, i64::MIN + 1);
    }

    #[test]
    fn only_the_exact_password_matches() {
        let id = SessionId(0x1234);
        let right = password(id);
        assert!(password_matches(id, Some(&right)));
        assert!(!password_matches(id, Some(&right[..8])));
        assert!(!password_matches(id, None));
        assert!(!password_matches(SessionId::NONE, Some(&password(SessionId::NONE))));
    }
}
