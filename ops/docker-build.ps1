<#
.SYNOPSIS
Builds the image of a node: synap:VERSION and synap:latest.

.DESCRIPTION
As ops/docker-build.sh, for PowerShell, for images to try out: without SBOM and provenance, and without
asking for the base's digest. So it builds on what the tag names on this machine, unless PYTHON_DIGEST
pins it, the image's labels do not tell the base, and SYNAP_RELEASE and SYNAP_ATTEST mean nothing:
build a release by the other. In the environment, PYTHON_VERSION chooses the base (3.13), PYTHON_DIGEST
(sha256:…) pins it, and DOCKER names the program (docker).

.PARAMETER Version
The image's tag; the project's own version where it is not given.

.EXAMPLE
./ops/docker-build.ps1 1.0.0
#>
[CmdletBinding()]
param([Parameter(Position = 0)][string]$Version)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'
Set-Location (Join-Path $PSScriptRoot '..')

if (-not $Version) {
    $line = Select-String -Path 'synap/__init__.py' -Pattern '^__version__ = "(.*)"$'
    $Version = $line.Matches[0].Groups[1].Value
}
if ($Version -notmatch '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$') {
    Write-Error "'$Version' is no tag of an image: letters, digits, and _ . - inside"
}

$engine = if ($env:DOCKER) { $env:DOCKER } else { 'docker' }
if (-not (Get-Command $engine -ErrorAction SilentlyContinue)) { Write-Error "$engine is not installed" }

$revision = 'unknown'
if (Get-Command git -ErrorAction SilentlyContinue) {
    $found = git rev-parse HEAD 2>$null
    if ($LASTEXITCODE -eq 0) {
        $revision = $found
        if (git status --porcelain) { $revision = "$revision-modified" }
    }
}
$python = if ($env:PYTHON_VERSION) { $env:PYTHON_VERSION } else { '3.13' }
$digest = if ($env:PYTHON_DIGEST) { "@$($env:PYTHON_DIGEST)" } else { '' }
$created = (Get-Date).ToUniversalTime().ToString('yyyy-MM-ddTHH:mm:ssZ')

& $engine build `
    --build-arg "PYTHON_VERSION=$python" `
    --build-arg "PYTHON_DIGEST=$digest" `
    --build-arg "VERSION=$Version" `
    --build-arg "REVISION=$revision" `
    --build-arg "CREATED=$created" `
    --tag "synap:$Version" --tag 'synap:latest' .
if ($LASTEXITCODE -ne 0) { Write-Error 'the image was not built; the reason is above' }
Write-Output "built synap:$Version and synap:latest"
