//! Export files (docs/export.md): length-delimited `kindred.admin.v1.ExportFrame`, a header first, a trailer with counts and
//! checksum last. Read and written frame by frame, so that their size does not matter.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use kindred_wire::pb::admin::v1 as pb;
use kindred_wire::pb::admin::v1::export_frame::Frame;
use prost::Message as _;
use ring::digest::{Context, SHA256};

/// The format that this version writes and reads.
pub const FORMAT: u32 = 1;
/// Largest frame; a page of accounts is far smaller.
const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A length below that takes so many bytes, at most.
const LENGTH_BYTES_MAX: usize = 4;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// Its bytes are not those of an export.
    #[error("{path}: no export file, or damaged: {what} at byte {offset}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
        /// Where the frame begins.
        offset: u64,
    },
    /// It ends before its trailer.
    #[error("{path}: not complete; go on with `kindred ctl export --out FILE --resume`")]
    Incomplete {
        /// The file.
        path: PathBuf,
    },
}

/// How far a file goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Accounts in it.
    pub accounts: u64,
    /// Accounts that were left out.
    pub too_large: u64,
    /// The last place of the export.
    pub cursor: Option<pb::Cursor>,
    /// Behind the last whole frame.
    pub offset: u64,
    /// Whether the trailer is there.
    pub is_complete: bool,
}

impl Extent {
    fn add(&mut self, reply: &pb::ExportAccountsReply) {
        self.accounts += reply.accounts.len() as u64;
        self.too_large += reply.too_large.len() as u64;
        self.cursor.clone_from(&reply.cursor);
    }
}

/// Reads a file from its beginning.
pub struct Reader {
    path: PathBuf,
    input: BufReader<File>,
    hash: Context,
    /// What was read so far.
    pub extent: Extent,
    /// What the file says of itself.
    pub header: pb::ExportHeader,
}

/// What comes next.
pub enum Next {
    /// Accounts.
    Accounts(pb::ExportAccountsReply),
    /// The file is over, and whole.
    End,
    /// The file is over in the middle of something.
    CutOff,
}

impl Reader {
    /// Opens a file and reads its header.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let io = |error| Error::Io { path: path.to_owned(), error };
        let input = BufReader::with_capacity(1 << 20, File::open(path).map_err(io)?);
        let (extent, header) = (Extent::default(), pb::ExportHeader::default());
        let mut reader = Self { path: path.to_owned(), input, hash: Context::new(&SHA256), extent, header };
        match reader.frame()? {
            Some((Frame::Header(header), bytes)) if header.format == FORMAT => {
                reader.take(&bytes);
                reader.header = header;
                Ok(reader)
            }
            Some((Frame::Header(_), _)) => Err(reader.damaged("a format that this version does not know")),
            _ => Err(reader.damaged("no header")),
        }
    }

    /// The next accounts.
    pub fn next(&mut self) -> Result<Next, Error> {
        if self.extent.is_complete {
            return Ok(Next::End);
        }
        match self.frame()? {
            None => Ok(Next::CutOff),
            Some((Frame::Accounts(reply), bytes)) => {
                self.take(&bytes);
                self.extent.add(&reply);
                Ok(Next::Accounts(reply))
            }
            Some((Frame::Trailer(trailer), bytes)) => {
                let sha256 = self.hash.clone().finish();
                let told = (trailer.accounts, trailer.too_large, &trailer.sha256[..]);
                if told != (self.extent.accounts, self.extent.too_large, sha256.as_ref()) {
                    return Err(self.damaged("another checksum or count than its trailer has"));
                }
                self.extent.offset += bytes.len() as u64;
                self.extent.is_complete = true;
                match self.frame()? {
                    None if self.extent.offset == self.len()? => Ok(Next::End),
                    _ => Err(self.damaged("something behind the trailer")),
                }
            }
            Some((Frame::Header(_), _)) => Err(self.damaged("a second header")),
        }
    }

    /// Reads to the end.
    pub fn read_all(mut self) -> Result<Extent, Error> {
        while let Next::Accounts(_) = self.next()? {}
        Ok(self.extent)
    }

    /// Size of the file in bytes.
    pub fn len(&self) -> Result<u64, Error> {
        let metadata = self.input.get_ref().metadata();
        metadata.map(|m| m.len()).map_err(|error| Error::Io { path: self.path.clone(), error })
    }

    fn take(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.extent.offset += bytes.len() as u64;
    }

    fn damaged(&self, what: &'static str) -> Error {
        Error::Damaged { path: self.path.clone(), what, offset: self.extent.offset }
    }

    /// The next frame with its bytes, length included; `None` if the file ends before the frame does.
    fn frame(&mut self) -> Result<Option<(Frame, Vec<u8>)>, Error> {
        let mut bytes = Vec::new();
        while bytes.last().is_none_or(|last| last & 0x80 != 0) {
            if bytes.len() == LENGTH_BYTES_MAX {
                return Err(self.damaged("the length of a frame"));
            }
            let mut byte = [0];
            if !self.fill(&mut byte)? {
                return Ok(None);
            }
            bytes.push(byte[0]);
        }
        let head = bytes.len();
        let length = prost::decode_length_delimiter(&bytes[..]).map_err(|_| self.damaged("the length of a frame"))?;
        if length > FRAME_BYTES_MAX {
            return Err(self.damaged("the length of a frame"));
        }
        bytes.resize(head + length, 0);
        let (_, body) = bytes.split_at_mut(head);
        if !self.fill(body)? {
            return Ok(None);
        }
        let frame = pb::ExportFrame::decode(&bytes[head..]).ok().and_then(|frame| frame.frame);
        frame.map(|frame| Some((frame, bytes))).ok_or_else(|| self.damaged("a frame"))
    }

    /// False if the file ends before.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, Error> {
        match self.input.read_exact(buffer) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(Error::Io { path: self.path.clone(), error }),
        }
    }
}

/// Writes a file to its end.
pub struct Writer {
    path: PathBuf,
    output: BufWriter<File>,
    hash: Context,
    /// What was written so far.
    pub extent: Extent,
}

impl Writer {
    /// Begins a file that must not be there yet.
    pub fn create(path: &Path, header: pb::ExportHeader) -> Result<Self, Error> {
        let options = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = options.map_err(|error| Error::Io { path: path.to_owned(), error })?;
        let mut writer = Self {
            path: path.to_owned(),
            output: BufWriter::with_capacity(1 << 20, file),
            hash: Context::new(&SHA256),
            extent: Extent::default(),
        };
        writer.write(Frame::Header(header))?;
        writer.flush()?;
        Ok(writer)
    }

    /// Goes on behind the last whole frame of a file that was begun.
    pub fn resume(path: &Path) -> Result<Self, Error> {
        let mut reader = Reader::open(path)?;
        while let Next::Accounts(_) = reader.next()? {}
        let Reader { hash, extent, .. } = reader;
        let io = |error| Error::Io { path: path.to_owned(), error };
        let mut file = OpenOptions::new().write(true).open(path).map_err(io)?;
        file.set_len(extent.offset).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        Ok(Self { path: path.to_owned(), output: BufWriter::with_capacity(1 << 20, file), hash, extent })
    }

    /// Adds accounts.
    pub fn add(&mut self, reply: pb::ExportAccountsReply) -> Result<(), Error> {
        self.extent.add(&reply);
        self.write(Frame::Accounts(reply))
    }

    /// Writes the trailer and syncs.
    pub fn finish(&mut self) -> Result<(), Error> {
        let sha256 = self.hash.clone().finish().as_ref().to_vec().into();
        let (accounts, too_large) = (self.extent.accounts, self.extent.too_large);
        self.write(Frame::Trailer(pb::ExportTrailer { accounts, too_large, sha256 }))?;
        self.extent.is_complete = true;
        self.flush()?;
        self.output.get_ref().sync_all().map_err(|error| self.io(error))
    }

    /// Gives everything to the operating system.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.output.flush().map_err(|error| Error::Io { path: self.path.clone(), error })
    }

    fn write(&mut self, frame: Frame) -> Result<(), Error> {
        let bytes = pb::ExportFrame { frame: Some(frame) }.encode_length_delimited_to_vec();
        self.output.write_all(&bytes).map_err(|error| self.io(error))?;
        self.hash.update(&bytes);
        self.extent.offset += bytes.len() as u64;
        Ok(())
    }

    fn io(&self, error: std::io::Error) -> Error {
        Error::Io { path: self.path.clone(), error }
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
