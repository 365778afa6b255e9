//! Opening and creating the replica, and moving a damaged one aside.
//!
//! A power cut during redb's first commit leaves a file that redb refuses for ever. So a replica is made
//! under a temporary name and gets its name only when it is whole and on the disk. redb may panic rather
//! than err on a file that a lying disk left behind; at opening that counts as damage.

use std::fs::{self, File};
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Builder, Database, ReadableDatabase, StorageBackend, TableError};
use tidegate_protocol::id::DeviceId;

use super::error::{Foreign, StoreError};
use super::migrate::{self, FORMAT};
use super::tables::Table;
use super::{Held, Snapshot, Store, Txn, meta, record};

/// redb's page cache, in bytes; resident memory follows it. A first sync of 100,000 files is not faster with twice as much,
/// and a million entries are read at the same speed with more.
const CACHE_BYTES: usize = 16 << 20;

/// What redb files start with (`docs/design.md` of redb).
const REDB_MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";

impl Store {
    /// Opens the replica of `device`, or creates it if there is no file at `path`. The directory must exist.
    /// `path.lock` is held for as long as the store is open.
    pub fn open(path: &Path, device: DeviceId) -> Result<Self, StoreError> {
        let lock = lock(path)?;
        if !path.try_exists()? {
            create(path, device)?;
        }
        refuse_other_files(path)?;
        let database = careful(|| Ok(builder().open(path)?))?;
        Self::adopt(database, device, Some(path.to_owned()), Some(lock))
    }

    /// Opens or creates the replica over a backend: the simulator's disk. An empty backend is a new replica.
    pub fn with_backend(backend: impl StorageBackend, device: DeviceId) -> Result<Self, StoreError> {
        let database = careful(|| Ok(builder().create_with_backend(backend)?))?;
        let is_new = database.begin_read()?.list_tables()?.next().is_none();
        if is_new {
            initialise(&database, device)?;
        }
        Self::adopt(database, device, None, None)
    }

    /// Renames a damaged replica to `path` with `.<suffix>-<n>` added, `n` being the first free number, and
    /// returns that name. Never deletes. The store must not be open.
    pub fn move_aside(path: &Path, suffix: &str) -> Result<PathBuf, StoreError> {
        let _lock = lock(path)?;
        let mut n = 1_u32;
        loop {
            let aside = with_suffix(path, &format!(".{suffix}-{n}"));
            if !aside.try_exists()? {
                fs::rename(path, &aside)?;
                sync_parent(path)?;
                return Ok(aside);
            }
            n += 1;
        }
    }

    fn adopt(
        database: Database,
        device: DeviceId,
        path: Option<PathBuf>,
        lock: Option<File>,
    ) -> Result<Self, StoreError> {
        let found = careful(|| inspect(&database, device))?;
        let store = Self(Arc::new(Held { database, device, remembered: Arc::default(), path, _lock: lock }));
        if found != FORMAT {
            let mut txn = store.write()?;
            if migrate::migrate(&mut txn, found)? {
                txn.commit()?;
            }
        }
        Ok(store)
    }
}

/// Reads format and owner, and changes nothing.
fn inspect(database: &Database, device: DeviceId) -> Result<u32, StoreError> {
    let txn = database.begin_read()?;
    let table = match txn.open_table(Table::Meta.definition()) {
        Ok(table) => table,
        Err(TableError::Storage(error)) => return Err(error.into()),
        Err(_) => return Err(StoreError::Foreign(Foreign::NotAReplica)),
    };
    let value =
        |key: &[u8]| -> Result<Option<Vec<u8>>, StoreError> { Ok(table.get(key)?.map(|guard| guard.value().to_vec())) };
    if value(meta::MAGIC_KEY)?.as_deref() != Some(meta::MAGIC) {
        return Err(StoreError::Foreign(Foreign::NotAReplica));
    }
    let found = value(meta::FORMAT_KEY)?.and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    let found = found.ok_or_else(|| StoreError::damaged("the format is missing"))?;
    if found > FORMAT {
        return Err(StoreError::NewerFormat { found, known: FORMAT });
    }
    let owner = value(meta::DEVICE_KEY)?.ok_or_else(|| StoreError::damaged("the device's id is missing"))?;
    let owner: DeviceId = record::decode(&owner)?;
    if owner != device {
        return Err(StoreError::Foreign(Foreign::OtherDevice(owner)));
    }
    Ok(found)
}

/// The first commit: all tables, format and owner.
fn initialise(database: &Database, device: DeviceId) -> Result<(), StoreError> {
    let txn = database.begin_write()?;
    let before = Arc::new(Snapshot::new(database.begin_read()?));
    let txn = Txn::new(txn, before, device, Arc::default());
    for table in Table::ALL {
        txn.table_mut(table)?;
    }
    txn.put(Table::Meta, meta::MAGIC_KEY, meta::MAGIC)?;
    txn.put(Table::Meta, meta::FORMAT_KEY, &FORMAT.to_be_bytes())?;
    txn.put(Table::Meta, meta::DEVICE_KEY, &record::encode(&device))?;
    txn.commit()
}

/// Temporary name, first commit, close, sync, rename, sync the directory. The lock is held, so a file under
/// the temporary name is what a crash left of an earlier try, and holds nothing.
fn create(path: &Path, device: DeviceId) -> Result<(), StoreError> {
    let temporary = with_suffix(path, ".new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    let database = builder().create(&temporary)?;
    initialise(&database, device)?;
    drop(database);
    let file = File::options().write(true).open(&temporary)?;
    restrict(&file)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, path)?;
    sync_parent(path)
}

/// The index names every file of its user: nobody else may read it.
fn restrict(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o600))
}

/// Tells other files from damaged replicas before redb sees them.
fn refuse_other_files(path: &Path) -> Result<(), StoreError> {
    let mut start = Vec::new();
    File::open(path)?.take(REDB_MAGIC.len() as u64).read_to_end(&mut start)?;
    if start.iter().all(|byte| *byte == 0) {
        return Err(StoreError::damaged("the file is empty"));
    }
    if start == REDB_MAGIC { Ok(()) } else { Err(StoreError::Foreign(Foreign::NotAReplica)) }
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let file = File::options().create(true).truncate(false).write(true).open(with_suffix(path, ".lock"))?;
    restrict(&file)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::Locked),
        Err(fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// A panic of redb while it reads a file is damage.
fn careful<T>(open: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|_| Err(StoreError::damaged("redb gave up on the file")))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn sync_parent(path: &Path) -> Result<(), StoreError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    Ok(File::open(parent)?.sync_all()?)
}
