#!/usr/bin/env bash
# Installs what tests need besides cargo, from npm, into target/tools: anvil, cast, forge, solc and viem for the contracts;
# and for the order book's page its library, with what bundles it, and what drives a browser and judges pages.
# Does nothing if they are there. Needs the network, and apt-get where node is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
packages="@foundry-rs/anvil@1.7.1 @foundry-rs/cast@1.7.1 @foundry-rs/forge@1.7.1 solc@0.8.30 viem@2.57.20"
packages+=" micro-eth-signer@0.20.1 esbuild@0.28.2 puppeteer-core@25.16.0 axe-core@4.14.1"
tools=target/tools

if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    echo "installing nodejs and npm"
    apt-get update -qq && apt-get install -y -qq nodejs npm >/dev/null
fi
# The programs themselves, not npm's wrappers of them: a killed wrapper leaves the program behind.
there() {
    [ "$(cat $tools/installed 2>/dev/null)" = "$packages" ] && [ -e $tools/node_modules/solc/soljson.js ] &&
        [ -e $tools/node_modules/viem/package.json ] && [ -e $tools/node_modules/micro-eth-signer/package.json ] &&
        [ -x $tools/node_modules/.bin/esbuild ] && [ -e $tools/node_modules/puppeteer-core/package.json ] &&
        [ -e $tools/node_modules/axe-core/axe.min.js ] &&
        compgen -G "$tools/node_modules/@foundry-rs/anvil-*/bin/anvil" >/dev/null &&
        compgen -G "$tools/node_modules/@foundry-rs/cast-*/bin/cast" >/dev/null &&
        compgen -G "$tools/node_modules/@foundry-rs/forge-*/bin/forge" >/dev/null
}
if ! there; then
    echo "installing $packages into $tools"
    mkdir -p $tools
    rm -f $tools/installed
    # No lock file: it would name a registry. The programs are packages of their own, so no script has to run.
    # shellcheck disable=SC2086
    npm install --prefix $tools --no-save --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error $packages
    echo "$packages" >$tools/installed
    there || { echo "one of $packages is still missing in $tools" >&2; exit 1; }
fi
