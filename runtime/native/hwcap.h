// Instruction sets of an ARM CPU from the hwcap bits of the kernel, named as in /proc/cpuinfo. That
// file describes the host if an emulator runs this program. A bit is set only if all cores have the
// feature. Source: Linux, arch/arm64/include/uapi/asm/hwcap.h and arch/arm64/kernel/cpuinfo.c.
#pragma once

#include <set>
#include <string>

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace handglass {

/* Of this process; empty on other architectures. */
inline std::set<std::string> ArmFlags() {
  std::set<std::string> flags;
#if defined(__aarch64__)
  static constexpr const char* kFirst[] = {
      "fp",      "asimd", "evtstrm", "aes",   "pmull",    "sha1",   "sha2", "crc32",
      "atomics", "fphp",  "asimdhp", "cpuid", "asimdrdm", "jscvt",  "fcma", "lrcpc",
      "dcpop",   "sha3",  "sm3",     "sm4",   "asimddp",  "sha512", "sve",  "asimdfhm",
      "dit",     "uscat", "ilrcpc",  "flagm", "ssbs",     "sb",     "paca", "pacg"};
  static constexpr const char* kSecond[] = {
      "dcpodp", "sve2",    "sveaes",   "svepmull", "svebitperm", "svesha3", "svesm4", "flagm2",
      "frint",  "svei8mm", "svef32mm", "svef64mm", "svebf16",    "i8mm",    "bf16",   "dgh",
      "rng",    "bti",     "mte",      "ecv",      "afp",        "rpres",   "mte3",   "sme"};
  auto add = [&](unsigned long bits, const auto& names) {
    for (const char* name : names) {
      if ((bits & 1) != 0) flags.insert(name);
      bits >>= 1;
    }
  };
  add(getauxval(AT_HWCAP), kFirst);
  add(getauxval(AT_HWCAP2), kSecond);
#endif
  return flags;
}

}  // namespace handglass
