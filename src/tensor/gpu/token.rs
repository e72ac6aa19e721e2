//! Tokens: what says that the submissions that made a result were carried out.
//!
//! On Metal wgpu takes a command buffer that the system ended for one that is through (gfx-rs/wgpu#9545): what its
//! kernels were to write is then stale, and no error tells. So the last kernel of every submission writes the
//! submission's number to a place of its own, a read-back copies those of all submissions since the last one that was
//! verified, and where one of them is not there the device counts as lost.

use super::device::{Device, TOKENS};
use super::kernel::Kernel;
use super::params::{Words, common, fill};
use super::stream::Stream;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// Tokens on their way to the host, behind what was read.
pub(super) struct Tokens {
    /// Numbers of the submissions.
    numbers: Range<u64>,
    /// Byte of the staging buffer where the first one is to be.
    offset: usize,
}

impl Tokens {
    /// Bytes of a staging buffer that holds `bytes` and the tokens behind them.
    pub(super) fn end(&self) -> u64 {
        self.offset as u64 + (self.numbers.end - self.numbers.start) * 4
    }
}

impl Device {
    /// Ends what is recorded with the kernel that says so, unless it ends so already or is empty.
    pub(super) fn seal(&self, stream: &mut Stream) {
        if stream.sealed || !stream.is_recording() || self.is_lost() {
            return;
        }
        stream.sealed = true;
        stream.token += 1;
        if self.options.faults.broken_submission == Some(stream.token) {
            return;
        }
        let (group_layout, pipeline_layout) = self.layout(0, 1);
        let (_, pipeline) = self.pipeline(&Kernel::Fill, &pipeline_layout);
        let bindings = self.bind(&group_layout, &[&self.tokens]);
        // One element of the kernel that sets elements to a bit pattern.
        let mut words = Words::new(1);
        words.set(common::GROUPS, 1);
        words.set(fill::OUTPUT_START, (stream.token % TOKENS) as usize);
        words.set(fill::VALUE, stream.token as usize);
        self.dispatch(stream, &pipeline, &bindings, words, (1, 1));
    }

    /// The tokens that a read of `bytes` bytes is to verify, once what is recorded is sealed.
    pub(super) fn tokens_behind(&self, stream: &Stream, bytes: u64) -> Tokens {
        let end = stream.token + 1;
        let oldest = end.saturating_sub(TOKENS);
        let verified = self.verified.load(Ordering::Relaxed);
        Tokens {
            numbers: (verified + 1).max(oldest).max(1).min(end)..end,
            offset: bytes as usize,
        }
    }

    /// Records the tokens' copies behind what is read.
    pub(super) fn copy_tokens(&self, stream: &mut Stream, tokens: &Tokens, to: &wgpu::Buffer) {
        let mut at = tokens.numbers.start;
        let mut offset = tokens.offset as u64;
        while at < tokens.numbers.end {
            // As far as the places go on.
            let place = at % TOKENS;
            let count = (tokens.numbers.end - at).min(TOKENS - place);
            self.encoder(stream).copy_buffer_to_buffer(
                &self.tokens,
                place * 4,
                to,
                offset,
                count * 4,
            );
            at += count;
            offset += count * 4;
        }
    }

    /// Whether all tokens are there; what is verified once is not asked for again.
    pub(super) fn verify(&self, tokens: &Tokens, staging: &[u8]) -> bool {
        let behind = staging.get(tokens.offset..).unwrap_or_default();
        let words: &[[u8; 4]] = behind.as_chunks().0;
        let numbers = tokens.numbers.clone();
        let there = words.len() as u64 >= numbers.end - numbers.start
            && numbers
                .clone()
                .zip(words)
                .all(|(number, word)| u32::from_ne_bytes(*word) == number as u32);
        if there {
            self.verified.fetch_max(numbers.end - 1, Ordering::Relaxed);
        }
        there
    }
}
