//! What a program says to valgrind's memcheck, when it runs in it; elsewhere all of this does nothing.
//!
//! A request is a row of instructions without an effect, which valgrind knows when it sees them, and the
//! address of six words: the request's number and its arguments. `valgrind.h` has the instructions ("client
//! requests") and `memcheck.h` the numbers.

#![allow(unsafe_code, reason = "a client request is a row of instructions")]

use std::arch::asm;
use std::hint::black_box;

const RUNNING_ON_VALGRIND: usize = 0x1001;
const COUNT_ERRORS: usize = 0x1201;
/// Memcheck's own requests are numbered from its initials.
const MEMCHECK: usize = 0x4d43_0000;
const MAKE_MEM_UNDEFINED: usize = MEMCHECK + 1;
const MAKE_MEM_DEFINED: usize = MEMCHECK + 2;
const GET_VBITS: usize = MEMCHECK + 8;

/// Whether this runs in valgrind.
pub fn listens() -> bool {
    request([RUNNING_ON_VALGRIND, 0, 0, 0]) != 0
}

/// How many different places were reported so far.
pub fn reports() -> usize {
    request([COUNT_ERRORS, 0, 0, 0])
}

/// Makes bytes secret: no branch and no address may depend on them, or on what is made of them.
pub fn classify(secret: &[u8]) {
    let secret = black_box(secret);
    request([MAKE_MEM_UNDEFINED, secret.as_ptr().expose_provenance(), secret.len(), 0]);
}

/// Makes bytes public.
pub fn declassify(public: &[u8]) {
    let public = black_box(public);
    request([MAKE_MEM_DEFINED, public.as_ptr().expose_provenance(), public.len(), 0]);
}

/// A copy that is public of bytes that may be secret.
pub fn declassified<const N: usize>(bytes: [u8; N]) -> [u8; N] {
    let copy = black_box(bytes);
    declassify(&copy);
    black_box(copy)
}

/// Whether every bit of these bytes is secret. Outside of valgrind they are.
pub fn are_secret<const N: usize>(bytes: &[u8; N]) -> bool {
    let mut secret_bits = [0xff_u8; N];
    let (bytes, bits) = (bytes.as_ptr().expose_provenance(), secret_bits.as_mut_ptr());
    request([GET_VBITS, bytes, bits.expose_provenance(), N]);
    black_box(secret_bits) == [0xff; N]
}

fn request([number, first, second, third]: [usize; 4]) -> usize {
    let words = black_box([number, first, second, third, 0, 0]);
    let answer: usize;
    // SAFETY: rotating by 128 bits in all and exchanging a register with itself change nothing; valgrind
    // writes the answer, and what GET_VBITS is told to write.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") words.as_ptr(),
            inout("rdx") 0_usize => answer,
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "ror x12, x12, #3",
            "ror x12, x12, #13",
            "ror x12, x12, #51",
            "ror x12, x12, #61",
            "orr x10, x10, x10",
            in("x4") words.as_ptr(),
            inout("x3") 0_usize => answer,
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        answer = words[5];
    }
    answer
}
