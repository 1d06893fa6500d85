//! The frames that end a WebSocket (RFC 6455 section 5.5.1), as each side of it writes them.

/// What a client is told whose target has changed: 1012, Service Restart, so that it may come again at once (the registry
/// of RFC 6455 section 11.7), and a reason of fewer than 124 bytes.
pub const TO_CLIENT: &[u8] = b"\x88\x12\x03\xf4decision changed";

/// What an upstream is told whose client leaves: 1001, Going Away, masked as all that a client says (RFC 6455 section
/// 5.3).
pub const fn to_upstream(mask: [u8; 4]) -> [u8; 8] {
    let [a, b, c, d] = mask;
    let [high, low] = 1001_u16.to_be_bytes();
    [0x88, 0x80 | 2, a, b, c, d, high ^ a, low ^ b]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::tunnel::frames::Frames;

    #[test]
    fn each_is_one_frame_that_closes() {
        let mask = [1, 2, 3, 4];
        let masked = to_upstream(mask);
        for frame in [TO_CLIENT, &masked] {
            let mut frames = Frames::default();
            frames.pass(frame);
            assert!(frames.has_closed() && frames.is_between());
            let mut cut = Frames::default();
            cut.pass(&frame[..frame.len() - 1]);
            assert!(!cut.is_between(), "its length is what it says");
        }
        assert_eq!(TO_CLIENT[2..4], 1012_u16.to_be_bytes());
        assert_eq!([masked[6] ^ mask[0], masked[7] ^ mask[1]], 1001_u16.to_be_bytes());
    }
}
