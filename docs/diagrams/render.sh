#!/usr/bin/env bash
# Draw every *.mmd of this folder as an SVG in the same folder: `make diagrams`. The SVGs are committed, so
# that neither the site nor a reader loads a script. Needs npm and chromium (Debian: chromium).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
browser=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome)} ||
	{ echo "chromium must be installed, or CHROMIUM must name a browser" >&2; exit 1; }
tool=$(mktemp -d)
trap 'rm -rf "$tool"' EXIT
PUPPETEER_SKIP_DOWNLOAD=1 npm install --silent --no-save --no-audit --no-fund --prefix "$tool" \
	@mermaid-js/mermaid-cli@12.2.0
cat >"$tool/browser.json" <<END_OF_SETTINGS
{"executablePath": "$browser",
 "args": ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]}
END_OF_SETTINGS
for source in *.mmd; do
	"$tool/node_modules/.bin/mmdc" --quiet --configFile mermaid.json --puppeteerConfigFile "$tool/browser.json" \
		--backgroundColor white --input "$source" --output "$tool/drawn.svg"
	# tests/docs/test_site.py compares this with the source.
	printf '%s\n<!-- sha256 of %s: %s -->\n' "$(cat "$tool/drawn.svg")" "$source" \
		"$(sha256sum <"$source" | cut -c1-64)" >"${source%.mmd}.svg"
	echo "drew ${source%.mmd}.svg"
done
