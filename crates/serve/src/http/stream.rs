//! Answers as server-sent events.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse, Response},
};
use hyper::body::{Body as HttpBody, Frame};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

use super::app::Finished;
use crate::{engine::Event, error::ApiError, tell::Tale};

/// What ends a stream.
const DONE: &str = "data: [DONE]\n\n";

/// The stream of an answer. When it is dropped, so is the request.
struct Events<T: Tale> {
    tale: Option<T>,
    /// What was made and not sent yet.
    ready: String,
    source: UnboundedReceiver<Event>,
    /// Who logs what was told, and that, if it is logged.
    finished: Option<Finished>,
    told: Vec<Value>,
}

/// The response that tells what `tale` makes of `first` and of the events after it.
pub(super) fn response<T: Tale>(
    mut tale: T,
    first: Event,
    events: UnboundedReceiver<Event>,
    finished: Finished,
) -> Result<Response, ApiError> {
    let mut chunks = tale.begin();
    chunks.extend(tale.take(first)?);
    let ready = String::new();
    let mut body =
        Events { tale: Some(tale), ready, source: events, finished: Some(finished), told: Vec::new() };
    body.tell(chunks);
    body.end_if_whole();
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::new(body)).into_response())
}

impl<T: Tale> Events<T> {
    fn tell(&mut self, chunks: Vec<Value>) {
        for chunk in &chunks {
            self.ready.push_str("data: ");
            self.ready.push_str(&chunk.to_string());
            self.ready.push_str("\n\n");
        }
        if self.finished.as_ref().is_some_and(Finished::logs) {
            self.told.extend(chunks);
        }
    }

    /// Takes an event; `None`: the engine is gone.
    fn take(&mut self, event: Option<Event>) {
        let Some(tale) = &mut self.tale else { return };
        let taken = event.map_or_else(|| Err(super::app::gone()), |event| tale.take(event));
        match taken {
            Ok(chunks) => {
                self.tell(chunks);
                self.end_if_whole();
            }
            Err(error) => {
                self.tell(vec![error.to_json()]);
                self.ready.push_str(DONE);
                self.tale = None;
            }
        }
    }

    fn end_if_whole(&mut self) {
        if let Some(mut tale) = self.tale.take_if(|tale| tale.is_whole()) {
            self.tell(tale.end());
            self.ready.push_str(DONE);
            if let Some(finished) = self.finished.take() {
                let told = std::mem::take(&mut self.told);
                finished.log(|| told.into());
            }
        }
    }
}

impl<T: Tale> HttpBody for Events<T> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while self.ready.is_empty() {
            if self.tale.is_none() {
                return Poll::Ready(None);
            }
            let event = ready!(self.source.poll_recv(cx));
            self.take(event);
        }
        // With what else is there, in one piece.
        while self.tale.is_some()
            && let Ok(event) = self.source.try_recv()
        {
            self.take(Some(event));
        }
        let ready = std::mem::take(&mut self.ready);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(ready)))))
    }
}
