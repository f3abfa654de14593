//! One client or target connection of `lean`, and what is known of its stream.

use std::io::{self, IoSlice, Write};

use mio::net::TcpStream;

use crate::socket::would_block;

pub struct Flow {
    pub socket: TcpStream,
    pub link: usize,
    pub id: u32,
    pub readable: bool,
    pub hang_up: bool,
    /// Bytes we may still send into the link.
    pub credit: u32,
    /// Bytes written to the socket that the other side was not told of yet.
    pub owed: u32,
    /// Plaintext that the socket would not take, from `unsent_at`.
    pub unsent: Vec<u8>,
    pub unsent_at: usize,
    pub fin_received: bool,
    pub fin_sent: bool,
    pub shut: bool,
    pub waiting: bool,
}

impl Flow {
    pub fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<()> {
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut written = 0;
        if self.unsent.is_empty() {
            written = match self.socket.write_vectored(slices) {
                Ok(written) => written,
                Err(error) if would_block(&error) => 0,
                Err(error) => return Err(error),
            };
            self.owed += u32::try_from(written).expect("a window");
            if written == total {
                return Ok(());
            }
        }
        for slice in slices {
            let skip = written.min(slice.len());
            self.unsent.extend_from_slice(&slice[skip..]);
            written -= skip;
        }
        Ok(())
    }

    pub fn write_unsent(&mut self) -> io::Result<()> {
        while self.unsent_at < self.unsent.len() {
            match self.socket.write(&self.unsent[self.unsent_at..]) {
                Ok(written) => {
                    self.unsent_at += written;
                    self.owed += u32::try_from(written).expect("a window");
                }
                Err(error) if would_block(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.unsent_at = 0;
        self.unsent.clear();
        if self.unsent.capacity() > 4096 {
            self.unsent = Vec::new();
        }
        Ok(())
    }
}

pub fn wants_read(flow: &Flow) -> bool {
    flow.readable && !flow.fin_sent && flow.credit > 0
}
