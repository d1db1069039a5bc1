//! The body of a response: whole, or made while it is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::resource_pool::Share;

/// Bytes of a whole body that are handed on at once, so that its progress can be seen.
const PIECE_BYTES: usize = 32 << 10;

/// The body of a response, and its share of the memory of all clients.
#[derive(Default)]
pub struct Body {
    content: Content,
    share: Option<Share>,
    rest: Option<BoxFuture<'static, ()>>,
}

enum Content {
    Whole(Bytes),
    Made(UnsyncBoxBody<Bytes, Infallible>),
}

impl Default for Content {
    fn default() -> Content {
        Content::Whole(Bytes::new())
    }
}

impl Body {
    /// A body that is complete already.
    pub fn whole(bytes: impl Into<Bytes>) -> Body {
        Body {
            content: Content::Whole(bytes.into()),
            share: None,
            rest: None,
        }
    }

    /// A body that is made while it is sent.
    pub fn made(body: impl HttpBody<Data = Bytes, Error = Infallible> + Send + 'static) -> Body {
        Body {
            content: Content::Made(body.boxed_unsync()),
            share: None,
            rest: None,
        }
    }

    /// Holds a share until all of the body was written or its client is gone.
    pub fn hold(&mut self, share: Share) {
        self.share = Some(share);
    }

    /// Takes the share out, for the code that sees when the last byte was written.
    pub(crate) fn take_share(&mut self) -> Option<Share> {
        self.share.take()
    }

    /// Whether it holds a share.
    pub fn has_share(&self) -> bool {
        self.share.is_some()
    }

    /// Runs `rest` after the response starts, as a part of the same request.
    pub fn then(&mut self, rest: impl Future<Output = ()> + Send + 'static) {
        self.rest = Some(rest.boxed());
    }

    /// Takes out what is to run after the response starts.
    pub(crate) fn take_rest(&mut self) -> Option<BoxFuture<'static, ()>> {
        self.rest.take()
    }

    /// Its bytes, if they are known.
    pub fn bytes(&self) -> Option<usize> {
        match &self.content {
            Content::Whole(bytes) => Some(bytes.len()),
            Content::Made(_) => None,
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.content {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => {
                let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Content::Made(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Made(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Made(body) => body.size_hint(),
        }
    }
}
