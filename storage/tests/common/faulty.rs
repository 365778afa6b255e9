//! A disk that is edited right before its n-th call, fails at it, or dies at it.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tidegate_storage::disk::{DirEntry, File, Metadata, RenameMode, RootDir, RootIdentity, Space, TreePath};

/// What happens at the chosen call.
pub enum Fault {
    /// A user does something right before it.
    Edit(Box<dyn FnMut() + Send>),
    /// A user does something right before every call from it on.
    EditAlways(Box<dyn FnMut() + Send>),
    /// It fails, and every later one: the process is dead.
    Crash,
    /// It alone fails.
    Fail(io::ErrorKind),
}

pub struct Plan {
    calls: AtomicUsize,
    at: usize,
    fault: Mutex<Fault>,
    /// Whether the disk can exchange two names.
    exchange: bool,
}

/// A root with a plan. Calls are counted from 1; 0 is never reached.
#[derive(Clone)]
pub struct Faulty<R> {
    inner: R,
    plan: Arc<Plan>,
}

impl<R> Faulty<R> {
    pub fn new(inner: R, at: usize, fault: Fault, exchange: bool) -> Self {
        Self { inner, plan: Arc::new(Plan { calls: AtomicUsize::new(0), at, fault: Mutex::new(fault), exchange }) }
    }

    /// Whether the chosen call was made.
    pub fn reached(&self) -> bool {
        self.plan.calls.load(Ordering::SeqCst) >= self.plan.at
    }
}

impl Plan {
    fn call(&self) -> io::Result<()> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        match &mut *self.fault.lock().unwrap() {
            Fault::Edit(edit) if call == self.at => edit(),
            Fault::EditAlways(edit) if call >= self.at => edit(),
            Fault::Fail(kind) if call == self.at => return Err((*kind).into()),
            Fault::Crash if call >= self.at => return Err(io::Error::other("the process is dead")),
            Fault::Edit(_) | Fault::EditAlways(_) | Fault::Fail(_) | Fault::Crash => {}
        }
        Ok(())
    }

    async fn around<T>(&self, call: impl Future<Output = io::Result<T>> + Send) -> io::Result<T> {
        self.call()?;
        call.await
    }
}

impl<R: RootDir> RootDir for Faulty<R> {
    type File = FaultyFile<R::File>;

    async fn identity(&self) -> io::Result<RootIdentity> {
        self.plan.around(self.inner.identity()).await
    }
    async fn space(&self) -> io::Result<Space> {
        self.plan.around(self.inner.space()).await
    }
    async fn metadata(&self, path: &TreePath) -> io::Result<Option<Metadata>> {
        self.plan.around(self.inner.metadata(path)).await
    }
    async fn list(&self, path: &TreePath) -> io::Result<Vec<DirEntry>> {
        self.plan.around(self.inner.list(path)).await
    }
    async fn read_link(&self, path: &TreePath) -> io::Result<Vec<u8>> {
        self.plan.around(self.inner.read_link(path)).await
    }
    async fn open(&self, path: &TreePath) -> io::Result<Self::File> {
        let file = self.plan.around(self.inner.open(path)).await?;
        Ok(FaultyFile { inner: file, plan: Arc::clone(&self.plan) })
    }
    async fn open_staged(&self, path: &TreePath) -> io::Result<Self::File> {
        let file = self.plan.around(self.inner.open_staged(path)).await?;
        Ok(FaultyFile { inner: file, plan: Arc::clone(&self.plan) })
    }
    async fn create(&self, path: &TreePath) -> io::Result<Self::File> {
        let file = self.plan.around(self.inner.create(path)).await?;
        Ok(FaultyFile { inner: file, plan: Arc::clone(&self.plan) })
    }
    async fn make_dir(&self, path: &TreePath) -> io::Result<()> {
        self.plan.around(self.inner.make_dir(path)).await
    }
    async fn make_symlink(&self, path: &TreePath, target: &[u8]) -> io::Result<()> {
        self.plan.around(self.inner.make_symlink(path, target)).await
    }
    async fn rename(&self, from: &TreePath, to: &TreePath, mode: RenameMode) -> io::Result<()> {
        if mode == RenameMode::Exchange && !self.plan.exchange {
            self.plan.call()?;
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.plan.around(self.inner.rename(from, to, mode)).await
    }
    async fn keep_permissions(&self, from: &TreePath, to: &TreePath) -> io::Result<()> {
        self.plan.around(self.inner.keep_permissions(from, to)).await
    }
    async fn remove_file(&self, path: &TreePath) -> io::Result<()> {
        self.plan.around(self.inner.remove_file(path)).await
    }
    async fn remove_dir(&self, path: &TreePath) -> io::Result<()> {
        self.plan.around(self.inner.remove_dir(path)).await
    }
    async fn sync_dir(&self, path: &TreePath) -> io::Result<()> {
        self.plan.around(self.inner.sync_dir(path)).await
    }
    async fn sync_all(&self) -> io::Result<()> {
        self.plan.around(self.inner.sync_all()).await
    }
}

pub struct FaultyFile<F> {
    inner: F,
    plan: Arc<Plan>,
}

impl<F: File> File for FaultyFile<F> {
    async fn metadata(&self) -> io::Result<Metadata> {
        self.plan.around(self.inner.metadata()).await
    }
    async fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.plan.around(self.inner.read_at(buffer, offset)).await
    }
    async fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.plan.around(self.inner.write_at(bytes, offset)).await
    }
    async fn copy_from(&self, source: &Self, source_offset: u64, offset: u64, length: u64) -> io::Result<u64> {
        self.plan.around(self.inner.copy_from(&source.inner, source_offset, offset, length)).await
    }
    async fn set_len(&self, length: u64) -> io::Result<()> {
        self.plan.around(self.inner.set_len(length)).await
    }
    async fn set_metadata(&self, mtime_ns: i64, executable: bool) -> io::Result<()> {
        self.plan.around(self.inner.set_metadata(mtime_ns, executable)).await
    }
    async fn sync(&self) -> io::Result<()> {
        self.plan.around(self.inner.sync()).await
    }
}
