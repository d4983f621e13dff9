//! Memory for weights, pages and scratch: zeroed, 64-byte aligned, in huge pages where the system has them.
//!
//! Huge pages are worth 20 to 35 % to a kernel that streams weights: each core's page walks stop being its limit.

use std::ptr::NonNull;

use program::BackendError;

/// Size of a huge page on x86-64 and of the usual one on AArch64.
#[cfg(unix)]
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Whether a region's bytes will all be used soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// All of it, over and over: huge pages pay.
    Dense,
    /// Bit by bit, perhaps never to the end: a huge page would commit what nobody uses.
    Sparse,
}

/// An owned region of zeroed bytes, committed by the system as they are touched.
#[derive(Debug)]
pub(crate) struct Region {
    start: NonNull<u8>,
    len: usize,
    #[cfg(unix)]
    mapping: (NonNull<u8>, usize),
}

// SAFETY: the region owns its bytes; sharing is governed by the borrows it hands out.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// `bytes` zero bytes for `what`.
    pub(crate) fn new(bytes: usize, usage: Use, what: &str) -> Result<Region, BackendError> {
        let refused = || BackendError::OutOfMemory { backend: "cpu", what: what.to_owned(), bytes: bytes as u64 };
        let len = bytes.max(64).checked_next_multiple_of(64).ok_or_else(refused)?;
        let region = Region::map(len).ok_or_else(refused)?;
        if usage == Use::Dense {
            region.ask_for_huge_pages();
        }
        Ok(region)
    }

    #[cfg(unix)]
    fn map(len: usize) -> Option<Region> {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        // Room to start at a huge page.
        let size = len.checked_add(HUGE_PAGE_BYTES)?.checked_next_multiple_of(4096)?;
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: a new private mapping at an address of the system's choice.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), size, protection, flags) }.ok()?;
        let base = NonNull::new(base.cast::<u8>())?;
        let offset = base.as_ptr().align_offset(HUGE_PAGE_BYTES);
        // SAFETY: the offset is below HUGE_PAGE_BYTES, so start and len lie in the mapping.
        let start = unsafe { base.add(offset) };
        Some(Region { start, len, mapping: (base, size) })
    }

    #[cfg(not(unix))]
    fn map(len: usize) -> Option<Region> {
        let layout = std::alloc::Layout::from_size_align(len, 64).ok()?;
        // SAFETY: the size is not zero.
        let start = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) })?;
        Some(Region { start, len })
    }

    #[cfg(target_os = "linux")]
    fn ask_for_huge_pages(&self) {
        // SAFETY: the range is this region's own. The advice is a wish: without it the region works, slower.
        let _ = unsafe { rustix::mm::madvise(self.start.as_ptr().cast(), self.len, rustix::mm::Advice::LinuxHugepage) };
    }

    #[cfg(not(target_os = "linux"))]
    fn ask_for_huge_pages(&self) {}

    /// A view of all bytes as `T`s that may be shared between threads.
    pub(crate) fn shared<T: bytemuck::Pod>(&self) -> Shared<T> {
        assert!(align_of::<T>() <= 64, "regions are aligned to 64 bytes");
        Shared { start: self.start.as_ptr().cast(), len: self.len / size_of::<T>() }
    }

    /// All bytes as `T`s, for an owner that shares them with nobody.
    pub(crate) fn elements_mut<T: bytemuck::Pod>(&mut self) -> &mut [T] {
        let elements = self.shared();
        // SAFETY: in bounds, and the region stays borrowed; who reads or writes through an older view promises that nobody
        // else does.
        unsafe { elements.slice_mut(0, elements.len) }
    }
}

impl Drop for Region {
    #[cfg(unix)]
    fn drop(&mut self) {
        let (base, size) = self.mapping;
        // SAFETY: mapped by `map` with this size; views do not outlive the owner of the region. Unmapping one's own
        // whole mapping cannot fail.
        let _ = unsafe { rustix::mm::munmap(base.as_ptr().cast(), size) };
    }

    #[cfg(not(unix))]
    fn drop(&mut self) {
        let layout = std::alloc::Layout::from_size_align(self.len, 64).expect("as when it was allocated");
        // SAFETY: allocated with this layout.
        unsafe { std::alloc::dealloc(self.start.as_ptr(), layout) };
    }
}

/// A bounds-checked window on a [`Region`] that several threads write disjoint parts of.
///
/// It does not keep the region alive; the executable that owns both does.
#[derive(Debug)]
pub(crate) struct Shared<T> {
    start: *mut T,
    len: usize,
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: access goes through unsafe methods whose contract is about threads.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// Elements `at..at + len`.
    ///
    /// # Safety
    /// The region is alive and no thread writes these elements meanwhile.
    pub(crate) unsafe fn slice<'a>(self, at: usize, len: usize) -> &'a [T] {
        self.check(at, len);
        // SAFETY: in bounds; the rest is the caller's promise.
        unsafe { std::slice::from_raw_parts(self.start.add(at), len) }
    }

    /// Elements `at..at + len`, to write.
    ///
    /// # Safety
    /// The region is alive and no other thread reads or writes these elements meanwhile.
    pub(crate) unsafe fn slice_mut<'a>(self, at: usize, len: usize) -> &'a mut [T] {
        self.check(at, len);
        // SAFETY: in bounds; the rest is the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), len) }
    }

    fn check(self, at: usize, len: usize) {
        assert!(at <= self.len && len <= self.len - at, "{at} + {len} outside {} elements", self.len);
    }
}

impl<T: Copy> Shared<T> {
    /// Elements `at..at + len` as a window of their own.
    pub(crate) fn part(self, at: usize, len: usize) -> Shared<T> {
        self.check(at, len);
        // SAFETY: in bounds.
        Shared { start: unsafe { self.start.add(at) }, len }
    }

    /// The address of element `at`.
    pub(crate) fn address(&self, at: usize) -> *const T {
        self.check(at, 1);
        // SAFETY: in bounds.
        unsafe { self.start.add(at) }
    }

    /// The address of element `at`, to write.
    pub(crate) fn address_mut(&self, at: usize) -> *mut T {
        self.check(at, 1);
        // SAFETY: in bounds.
        unsafe { self.start.add(at) }
    }
}

impl Shared<u16> {
    /// The same memory as bytes.
    pub(crate) fn bytes(self) -> Shared<u8> {
        Shared { start: self.start.cast(), len: 2 * self.len }
    }
}

impl Shared<f32> {
    /// The same memory as records of several numbers.
    pub(crate) fn records<T: bytemuck::Pod>(self) -> Shared<T> {
        Shared { start: self.start.cast(), len: self.len / (size_of::<T>() / size_of::<f32>()) }
    }

    /// A view between passes, when no thread writes.
    pub(crate) fn settled(&self, at: usize, len: usize) -> &[f32] {
        // SAFETY: passes run to their end inside `&mut self` methods of the executable, which owns the region.
        unsafe { self.slice(at, len) }
    }
}
