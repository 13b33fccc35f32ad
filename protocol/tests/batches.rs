//! Batches of HTTP's /mpub; those of TCP are in `conversation.rs`.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use protocol::batch::{Batch, BatchBounds, TextBatch};
use protocol::error::{CommandError, ErrorCode};

const BOUNDS: BatchBounds = BatchBounds {
    message_bytes_max: 10,
    body_bytes_max: 100,
};

#[test]
fn http_binary_starts_at_the_count() {
    let body = b"\0\0\0\x02\0\0\0\x01a\0\0\0\x02bc";
    let batch = Batch::from_http(body, &BOUNDS).unwrap();
    assert_eq!((batch.len(), batch.body_bytes()), (2, 3));
    assert_eq!(batch.iter().collect::<Vec<_>>(), [b"a".as_slice(), b"bc"]);
    let longer = [body.as_slice(), b"rest"].concat();
    assert_eq!(Batch::from_http(&longer, &BOUNDS).unwrap(), batch);
}

#[test]
fn http_binary_is_refused_with_the_codes_of_mpub() {
    for (body, code) in [
        (b"".as_slice(), ErrorCode::BadBody),
        (b"\0\0\0\0", ErrorCode::BadBody),
        (b"\0\0\0\x14", ErrorCode::BadBody), // 20 messages do not fit into 100 bytes
        (b"\0\0\0\x01", ErrorCode::BadMessage),
        (b"\0\0\0\x01\0\0\0\0", ErrorCode::BadMessage),
        (b"\0\0\0\x01\0\0\0\x0b", ErrorCode::BadMessage),
        (b"\0\0\0\x01\0\0\0\x02a", ErrorCode::BadMessage),
    ] {
        let error = Batch::from_http(body, &BOUNDS).unwrap_err();
        assert_eq!(error.code(), Some(code), "{body:?}: {error}");
    }
    assert_eq!(
        Batch::from_http(b"\0\0\0\x13", &BOUNDS).unwrap_err(),
        CommandError::NoMessageSize(0)
    );
}

#[test]
fn http_text_is_split_at_newlines_alone_and_empty_lines_are_skipped() {
    let batch = TextBatch::new(b"a\n\nb c\r\n\nlast", 10).unwrap();
    assert_eq!(
        batch.iter().collect::<Vec<_>>(),
        [b"a".as_slice(), b"b c\r", b"last"]
    );
    assert_eq!((batch.len(), batch.body_bytes()), (3, 9));
    assert!(TextBatch::new(b"\n\n", 10).unwrap().is_empty());
    assert!(TextBatch::new(b"0123456789\n", 10).is_ok());
    assert_eq!(
        TextBatch::new(b"a\n0123456789x\n", 10).unwrap_err().bytes,
        11
    );
}
