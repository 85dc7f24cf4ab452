#!/usr/bin/env bash
# Unpacks a newer lavapipe than the distribution's, with cooperative matrices.
#
#   tests/support/newer_mesa.sh FOLDER PYTHON
#
# Downloads Mesa, its libraries and C library from Debian's unstable suite, from the same mirror as
# this system's packages. Nothing is installed. FOLDER/python then runs PYTHON with that driver.
set -euo pipefail
folder=$(realpath -m "$1") python=$(realpath -s "$2")
[ -x "$folder/python" ] && exit 0
state="$folder/apt"
mkdir -p "$state"/{lists/partial,archives/partial}
touch "$state/status" "$state/none"
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' | grep -v security | head -n 1)
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >"$state/sources.list"
options=(
  -o "Dir::Etc::sourcelist=$state/sources.list" -o Dir::Etc::sourceparts=-
  -o "Dir::Etc::preferences=$state/none" -o Dir::Etc::preferencesparts=-
  -o "Dir::State::lists=$state/lists" -o "Dir::State::status=$state/status"
  -o "Dir::Cache::archives=$state/archives" -o Debug::NoLocking=1 -o APT::Install-Recommends=0
)
apt-get "${options[@]}" -qq update
apt-get "${options[@]}" -qq -y --download-only install mesa-vulkan-drivers libvulkan1 libstdc++6
for package in "$state"/archives/*.deb; do dpkg -x "$package" "$folder"; done
rm -r "$state"

libraries="$folder/usr/lib/x86_64-linux-gnu"
sed "s|\"library_path\": *\"|&$libraries/|" "$folder/usr/share/vulkan/icd.d/lvp_icd.json" >"$folder/lvp.json"
cat >"$folder/python.new" <<END
#!/usr/bin/env bash
export VK_DRIVER_FILES="$folder/lvp.json"
exec "$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" --argv0 "$python" "\$(readlink -f "$python")" "\$@"
END
chmod +x "$folder/python.new"
mv "$folder/python.new" "$folder/python" # last, so that its existence means completeness
