//! The HTTP APIs over real HTTP and the real embedded allocator.
