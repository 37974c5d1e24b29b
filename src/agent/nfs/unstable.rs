//! What was written to a file and may not be on the server's disk yet. It is kept until the server said that it is: a server that was
//! started anew meanwhile, which its answers show, is sent it again.

use std::sync::atomic::{AtomicUsize, Ordering};

use fuser::Errno;
use nfs3_types::nfs3::{fattr3, writeverf3};

use super::calls::{Calls, Handle};

/// Most that is kept of one file before it is committed. Unit: bytes.
const OF_ONE: usize = 16 << 20;

/// Most that is kept of all files of a mount. Unit: bytes.
const OF_ALL: usize = 64 << 20;

/// Runs of a server that are tried before writing fails.
const RUNS: usize = 4;

/// Bytes kept of all files.
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// What was written to a file and is kept.
#[derive(Default)]
pub(super) struct Unstable {
    pieces: Vec<Piece>,
    kept: usize,
}

struct Piece {
    offset: u64,
    data: Vec<u8>,
    run: writeverf3,
}

impl Unstable {
    /// Whether all that was written is on the server's disk.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Writes all of `data`.
    ///
    /// # Errors
    /// The server's. What was written before stays.
    pub(super) fn write(&mut self, calls: &Calls, file: &Handle, offset: u64, data: &[u8], most: usize) -> Result<(), Errno> {
        let mut offset = offset;
        for piece in data.chunks(most) {
            self.send(calls, file, offset, piece)?;
            offset += piece.len() as u64;
        }
        if self.kept > OF_ONE || KEPT.load(Ordering::Relaxed) > OF_ALL {
            self.commit(calls, file)?;
        }
        Ok(())
    }

    fn send(&mut self, calls: &Calls, file: &Handle, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let (mut offset, mut left) = (offset, data);
        while !left.is_empty() {
            let (written, run, stable) = calls.write(file, offset, left)?;
            // A server that writes nothing says nothing of why.
            let (done, rest) = left.split_at_checked(written).filter(|_| written > 0).ok_or(Errno::EIO)?;
            if !stable {
                self.kept += done.len();
                KEPT.fetch_add(done.len(), Ordering::Relaxed);
                self.pieces.push(Piece { offset, data: done.to_vec(), run });
            }
            offset += written as u64;
            left = rest;
        }
        Ok(())
    }

    /// Has all that was written on the server's disk. Answers the file's attributes then, where the server said them.
    ///
    /// # Errors
    /// The server's; `EIO` where it is started anew again and again. What is not on its disk is kept, and tried by the next call.
    pub(super) fn commit(&mut self, calls: &Calls, file: &Handle) -> Result<Option<fattr3>, Errno> {
        for _ in 0..RUNS {
            if self.pieces.is_empty() {
                return Ok(None);
            }
            let (run, seen) = calls.commit(file)?;
            let (_, lost): (Vec<Piece>, Vec<Piece>) = self.take().into_iter().partition(|piece| piece.run == run);
            if lost.is_empty() {
                return Ok(seen);
            }
            let mut lost = lost.into_iter();
            while let Some(piece) = lost.next() {
                if let Err(error) = self.send(calls, file, piece.offset, &piece.data) {
                    self.keep(std::iter::once(piece).chain(lost));
                    return Err(error);
                }
            }
        }
        if self.pieces.is_empty() { Ok(None) } else { Err(Errno::EIO) }
    }

    fn take(&mut self) -> Vec<Piece> {
        KEPT.fetch_sub(std::mem::take(&mut self.kept), Ordering::Relaxed);
        std::mem::take(&mut self.pieces)
    }

    fn keep(&mut self, pieces: impl Iterator<Item = Piece>) {
        for piece in pieces {
            self.kept += piece.data.len();
            KEPT.fetch_add(piece.data.len(), Ordering::Relaxed);
            self.pieces.push(piece);
        }
    }
}

impl Drop for Unstable {
    fn drop(&mut self) {
        self.take();
    }
}
