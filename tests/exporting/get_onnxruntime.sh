#!/usr/bin/env bash
# Get ONNX Runtime for C++, C# and JavaScript into a folder, for the tests of the programs beside an export:
#   tests/exporting/get_onnxruntime.sh FOLDER
# Needs npm; for C# Debian's mono-mcs. ONNX Runtime's headers, library and C# sources come from its Unity package on
# npm. The sources use newer C# than mono's compiler knows: what it does not know is rewritten here.
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

ONNXRUNTIME_NODE_INSTALL=skip npm install --silent --no-audit --no-fund --prefix "$folder" onnxruntime-node@1.30.0

npm pack --silent com.github.asus4.onnxruntime@0.4.9 >/dev/null
headers=package/Plugins/iOS~/onnxruntime.xcframework/ios-arm64/onnxruntime.framework/Headers
tar xzf ./*.tgz --wildcards 'package/Runtime/*.cs' 'package/Plugins/Linux/x64/*.so' "$headers/*.h"
mkdir -p "$folder/include" "$folder/lib"
cp "$headers"/*.h "$folder/include"
cp package/Plugins/Linux/x64/libonnxruntime.so "$folder/lib/libonnxruntime.so.1"
ln -sf libonnxruntime.so.1 "$folder/lib/libonnxruntime.so"

if command -v mcs >/dev/null; then
    mkdir sources
    find package/Runtime -name '*.cs' -exec cp {} sources \;
    sed -i -E '
        s/\bis not null\b/!= null/g; s/\bis null\b/== null/g; s/\bis not ([A-Za-z.<>]+)\b/is \1 == false/g
        s/^(\s*)using var /\1var /
        s/Select\(static ptr/Select(ptr/
        s/(DisposableList<OrtValue>) (\w+) = new\(/\1 \2 = new \1(/
        s/: unmanaged\b/: struct/g
        s/^(\s*)Buffer\.Span\[index\] = value;/\1var span = Buffer.Span; span[index] = value;/
        s/^(\s*)disposableHandles\.Span\[i\] = (.*);/\1var handles = disposableHandles.Span; handles[i] = \2;/
        s/^(\s*)(\w+\[[^]]+\]) = (\w+\[[^]]+\]) = ([^;=]+);/\1\2 = \4; \3 = \2;/
    ' sources/*.cs
    mcs -nowarn:1-9999 -target:library -unsafe -langversion:latest -define:NETSTANDARD2_0 \
        -out:"$folder/Microsoft.ML.OnnxRuntime.dll" sources/*.cs
fi
