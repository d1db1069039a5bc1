//! The body of an answer: whole, or made while it is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

/// The body of an answer, and the answer's place among those in progress, which is free again once the body was
/// taken or its reader is gone.
#[derive(Debug, Default)]
pub struct Body {
    content: Content,
    _place: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
enum Content {
    Whole(Full<Bytes>),
    Made(UnsyncBoxBody<Bytes, Infallible>),
}

impl Default for Content {
    fn default() -> Content {
        Content::Whole(Full::default())
    }
}

impl Body {
    /// A body that is there already.
    pub fn whole(bytes: impl Into<Bytes>) -> Body {
        Body {
            content: Content::Whole(Full::new(bytes.into())),
            _place: None,
        }
    }

    /// A body that is made while it is sent.
    pub fn made(body: impl HttpBody<Data = Bytes, Error = Infallible> + Send + 'static) -> Body {
        Body {
            content: Content::Made(body.boxed_unsync()),
            _place: None,
        }
    }

    /// Holds a place for as long as there is this body.
    pub fn hold(&mut self, place: OwnedSemaphorePermit) {
        self._place = Some(place);
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.content {
            Content::Whole(body) => Pin::new(body).poll_frame(cx),
            Content::Made(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(body) => body.is_end_stream(),
            Content::Made(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(body) => body.size_hint(),
            Content::Made(body) => body.size_hint(),
        }
    }
}
