//! An opened model: one file or all shards of a split one, with its metadata, its tensors and their bytes.
//!
//! Opening checks everything that can be checked without looking at weights. Afterwards nothing fails, and nothing is
//! copied: bytes are views, and [`TensorData`] keeps them alive without a lifetime.

use std::fmt;
use std::io;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cursor::Cursor;
use crate::error::GgufError;
use crate::header;
use crate::metadata::Metadata;
use crate::source::Source;
use crate::split::{self, ShardKeys};
use crate::tensor_table::{self, TensorInfo};

/// A GGUF model. Cloning is cheap: clones share the bytes, which live as long as any clone or [`TensorData`].
#[derive(Clone, Debug)]
pub struct GgufFile {
    model: Arc<Model>,
}

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenConfig {
    /// How the bytes reach memory.
    pub access: Access,
}

/// How a file's bytes reach memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Map the file: fast, and the pages are the system's cache. The file must stay as it is while it is open: if it
    /// shrinks, the operating system sends SIGBUS on the next access to what is gone, which ends a process that does
    /// not handle it. The `metallic` command does, with an error; a server for files that others may change should
    /// choose [`Access::Read`].
    Map,
    /// Read the file into memory: for files on network drives or that others may change.
    Read,
}

#[derive(Debug)]
struct Model {
    version: u32,
    alignment: u32,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    /// Indices into `tensors`, sorted by name.
    by_name: Vec<usize>,
    shards: Vec<Shard>,
}

#[derive(Debug)]
struct Shard {
    /// `None` for bytes in memory.
    path: Option<PathBuf>,
    source: Arc<Source>,
}

impl GgufFile {
    /// Opens and maps the model at `path`; any shard of a split model opens all of it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, GgufError> {
        Self::open_with(path, OpenConfig { access: Access::Map })
    }

    /// Opens the model at `path`; any shard of a split model opens all of it.
    pub fn open_with(path: impl AsRef<Path>, config: OpenConfig) -> Result<Self, GgufError> {
        let path = path.as_ref();
        let file = ParsedFile::open(path, config.access)?;
        match ShardKeys::of(&file.metadata).map_err(|error| error.in_file(path))? {
            None => Self::of_shards(vec![file]),
            Some(keys) => Self::of_shards(open_shards(file, path, keys, config.access)?),
        }
    }

    /// Reads a model that is in memory, such as one embedded in the program. Nothing is copied.
    ///
    /// Tensor data is as aligned as `bytes` are: an `include_bytes!` array may start anywhere.
    pub fn from_bytes(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<Self, GgufError> {
        let file = ParsedFile::parse(Source::Memory(Box::new(bytes)), None)?;
        match ShardKeys::of(&file.metadata)? {
            None => Self::of_shards(vec![file]),
            Some(keys) => Err(GgufError::ShardInMemory { count: keys.count }),
        }
    }

    /// The GGUF version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.model.version
    }

    /// The alignment of the data section of the first shard, in bytes.
    pub fn alignment(&self) -> u32 {
        self.model.alignment
    }

    /// The metadata; of a split model, that of its first shard.
    pub fn metadata(&self) -> &Metadata {
        &self.model.metadata
    }

    /// All tensors, shard by shard, in the order of their tables.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.model.tensors
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let Model { tensors, by_name, .. } = &*self.model;
        let place = by_name.binary_search_by(|&index| tensors[index].name().cmp(name)).ok()?;
        Some(&tensors[by_name[place]])
    }

    /// The bytes of a tensor of this model.
    ///
    /// # Panics
    ///
    /// If `tensor` belongs to another model and lies outside this one's files.
    pub fn tensor_bytes(&self, tensor: &TensorInfo) -> &[u8] {
        &self.model.shards[tensor.shard()].source.bytes()[tensor.range()]
    }

    /// The bytes of a tensor of this model, as a handle that keeps the file open.
    ///
    /// # Panics
    ///
    /// If `tensor` belongs to another model and lies outside this one's files.
    pub fn tensor_data(&self, tensor: &TensorInfo) -> TensorData {
        let source = Arc::clone(&self.model.shards[tensor.shard()].source);
        assert!(tensor.range().end <= source.bytes().len(), "a tensor of another model");
        TensorData { source, range: tensor.range() }
    }

    /// How many files the model consists of.
    pub fn shard_count(&self) -> usize {
        self.model.shards.len()
    }

    /// The path of a shard; `None` for a model in memory and for a number that there is not.
    pub fn shard_path(&self, shard: usize) -> Option<&Path> {
        self.model.shards.get(shard)?.path.as_deref()
    }

    /// Bytes of all files together.
    pub fn file_bytes(&self) -> u64 {
        self.model.shards.iter().map(|shard| shard.source.bytes().len() as u64).sum()
    }

    /// Fails with [`GgufError::FileChanged`] if a mapped file grew or shrank since it was opened. Call it before
    /// reading weights: accessing what a file lost ends the process.
    pub fn check_unchanged(&self) -> Result<(), GgufError> {
        for shard in &self.model.shards {
            let Some(path) = &shard.path else { continue };
            shard.source.check_unchanged(path).map_err(|error| error.in_file(path))?;
        }
        Ok(())
    }

    /// Advises the system that the model will be read once, front to back. Advice only: no bytes change, and a
    /// refusal may be ignored.
    pub fn advise_sequential(&self) -> io::Result<()> {
        self.model.shards.iter().try_for_each(|shard| shard.source.advise_sequential())
    }

    /// Advises the system to read a tensor ahead. Advice only.
    pub fn advise_will_need(&self, tensor: &TensorInfo) -> io::Result<()> {
        self.model.shards[tensor.shard()].source.advise_will_need(tensor.range())
    }

    /// Lets the system drop a tensor's pages, say after a backend repacked it. The bytes stay readable, from the file.
    /// Does nothing for a model in memory.
    pub fn release(&self, tensor: &TensorInfo) -> io::Result<()> {
        self.model.shards[tensor.shard()].source.release(tensor.range())
    }

    fn of_shards(files: Vec<ParsedFile>) -> Result<Self, GgufError> {
        let mut first = None;
        let (mut tensors, mut shards) = (Vec::new(), Vec::new());
        for mut file in files {
            file.tensors.iter_mut().for_each(|tensor| tensor.set_shard(shards.len()));
            tensors.append(&mut file.tensors);
            shards.push(Shard { path: file.path, source: file.source });
            first.get_or_insert((file.version, file.alignment, file.metadata));
        }
        let (version, alignment, metadata) = first.expect("a model has at least one file");
        let by_name = index_names(&tensors).map_err(|error| match &shards[0].path {
            Some(path) => error.in_file(path),
            None => error,
        })?;
        Ok(Self { model: Arc::new(Model { version, alignment, metadata, tensors, by_name, shards }) })
    }
}

/// One tensor's bytes, with shared ownership of the file they are in. Backends keep it as long as they read the weight.
#[derive(Clone)]
pub struct TensorData {
    source: Arc<Source>,
    range: Range<usize>,
}

impl TensorData {
    /// As [`GgufFile::release`], for a backend that holds no file.
    pub fn release(&self) -> io::Result<()> {
        self.source.release(self.range.clone())
    }
}

impl Deref for TensorData {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.source.bytes()[self.range.clone()]
    }
}

impl AsRef<[u8]> for TensorData {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for TensorData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TensorData({} bytes at {})", self.range.len(), self.range.start)
    }
}

/// One file, checked on its own.
struct ParsedFile {
    path: Option<PathBuf>,
    source: Arc<Source>,
    version: u32,
    alignment: u32,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
}

impl ParsedFile {
    fn open(path: &Path, access: Access) -> Result<Self, GgufError> {
        let source = Source::open(path, access).map_err(|error| error.in_file(path))?;
        Self::parse(source, Some(path.to_path_buf())).map_err(|error| error.in_file(path))
    }

    fn parse(source: Source, path: Option<PathBuf>) -> Result<Self, GgufError> {
        let source = Arc::new(source);
        let bytes = source.bytes();
        let mut cursor = Cursor::new(bytes, 0);
        let header = header::read(&mut cursor, bytes)?;
        let metadata = Metadata::parse(&source, &mut cursor, header.metadata_count)?;
        let alignment = metadata.alignment()?;
        let tensors = tensor_table::parse(&mut cursor, header.tensor_count, alignment)?;
        Ok(Self { path, source: Arc::clone(&source), version: header.version, alignment, metadata, tensors })
    }
}

/// All shards in order; `opened` is the one at `path`.
fn open_shards(opened: ParsedFile, path: &Path, keys: ShardKeys, access: Access) -> Result<Vec<ParsedFile>, GgufError> {
    let (mut files, mut opened): (Vec<ParsedFile>, _) = (Vec::new(), Some(opened));
    for (number, path) in (0..).zip(keys.paths(path).map_err(|error| error.in_file(path))?) {
        let already = if number == keys.number { opened.take() } else { None };
        let file = match already {
            Some(file) => file,
            None => open_sibling(&path, number, keys, access)?,
        };
        if let Some(first) = files.first() {
            split::check_same_model(&first.metadata, &file.metadata).map_err(|error| error.in_file(&path))?;
        }
        files.push(file);
    }
    let found = files.iter().map(|file| file.tensors.len()).sum();
    if found as u64 != keys.tensor_count {
        let error = GgufError::ShardTensorCount { expected: keys.tensor_count, found, shards: files.len() };
        return Err(error.in_file(path));
    }
    Ok(files)
}

fn open_sibling(path: &Path, number: u64, keys: ShardKeys, access: Access) -> Result<ParsedFile, GgufError> {
    let file = ParsedFile::open(path, access).map_err(|error| match error {
        GgufError::Io { cause, .. } if cause.kind() == io::ErrorKind::NotFound => {
            GgufError::MissingShard { path: path.to_path_buf(), number: number + 1, count: keys.count }
        }
        error => error,
    })?;
    let sibling = ShardKeys::of(&file.metadata).map_err(|error| error.in_file(path))?;
    keys.check_sibling(number, sibling).map_err(|error| error.in_file(path))?;
    Ok(file)
}

/// Indices of `tensors` sorted by name; no name may occur twice.
fn index_names(tensors: &[TensorInfo]) -> Result<Vec<usize>, GgufError> {
    let mut by_name: Vec<usize> = (0..tensors.len()).collect();
    by_name.sort_by(|&a, &b| tensors[a].name().cmp(tensors[b].name()).then(a.cmp(&b)));
    match by_name.windows(2).find(|pair| tensors[pair[0]].name() == tensors[pair[1]].name()) {
        None => Ok(by_name),
        Some(pair) => {
            let (first, second) = (&tensors[pair[0]], &tensors[pair[1]]);
            Err(GgufError::DuplicateTensor {
                name: second.name().to_owned(),
                offset: second.entry_offset(),
                shard: second.shard(),
                first_shard: first.shard(),
            })
        }
    }
}
