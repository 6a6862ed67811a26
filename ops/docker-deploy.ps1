<#
.SYNOPSIS
Runs the cluster of docker-compose.yml.

.DESCRIPTION
The same as ops/docker-deploy.sh, for PowerShell:

  start         start all nodes and wait until they are healthy
  stop          stop them; containers and data stay
  restart       stop, then start
  status        the containers, and the cluster as its master sees it
  logs [NODE]   follow the logs of one node (master, replica1, ...) or of all
  health        each node's health and each replica's lag; exit 1 where one is bad
  clean         remove containers, network AND DATA; asks first, unless -Yes is given

.EXAMPLE
./ops/docker-deploy.ps1 start

.EXAMPLE
./ops/docker-deploy.ps1 -ComposeProfile lb, monitoring start
#>
[CmdletBinding()]
param(
    [Parameter(Mandatory, Position = 0)]
    [ValidateSet('start', 'stop', 'restart', 'status', 'logs', 'health', 'clean')]
    [string]$Command,
    [Parameter(Position = 1)][string]$Node,
    [string[]]$File = @(),
    [string[]]$ComposeProfile = @(),
    [ValidateRange(1, 86400)][int]$Timeout = 120,
    [switch]$Yes
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'
Set-Location (Join-Path $PSScriptRoot '..')

$options = @()
foreach ($name in $File) { $options += '--file', $name }
foreach ($name in $ComposeProfile) { $options += '--profile', $name }

docker compose version *> $null
$hasPlugin = $LASTEXITCODE -eq 0
if (-not $hasPlugin -and -not (Get-Command docker-compose -ErrorAction SilentlyContinue)) {
    Write-Error 'no Compose is installed: neither docker compose nor docker-compose'
}

function Invoke-Compose {
    if ($hasPlugin) { docker compose @options @args } else { docker-compose @options @args }
    if ($LASTEXITCODE -ne 0) { exit 1 }
}

function Get-Node {
    docker ps --all --format '{{.Names}}' | Where-Object { $_ -match '^synap-(master|replica[0-9]+)$' } | Sort-Object
}

function Get-State([string]$Name) {
    docker inspect --format '{{.State.Status}}{{if .State.Health}} {{.State.Health.Status}}{{end}}' $Name
}

# Why a node is not healthy: the last check's words, else the log's end.
function Get-Reason([string]$Name) {
    $words = ''
    if ((Get-State $Name) -like 'running*') {
        $words = docker inspect --format '{{if .State.Health}}{{range .State.Health.Log}}{{.Output}}{{"\n"}}{{end}}{{end}}' $Name |
            Where-Object { $_ } | Select-Object -Last 1
    }
    if (-not $words) { $words = (docker logs --tail 3 $Name 2>&1) -join ' ' }
    $words
}

function Wait-Healthy {
    $end = (Get-Date).AddSeconds($Timeout)
    while ($true) {
        $nodes = @(Get-Node)
        if ($nodes.Count -eq 0) { Write-Error 'no node was started' }
        $bad = @($nodes | Where-Object { (Get-State $_) -ne 'running healthy' })
        if ($bad.Count -eq 0) { break }
        if ((Get-Date) -ge $end) {
            foreach ($name in $bad) { Write-Warning "$name is $(Get-State $name): $(Get-Reason $name)" }
            Write-Error "not all nodes are healthy after $Timeout s"
        }
        Start-Sleep -Seconds 1
    }
    Write-Output "all nodes are healthy: $($nodes -join ' ')"
}

function Show-Health {
    $nodes = @(Get-Node)
    if ($nodes.Count -eq 0) { Write-Error 'no node runs; ops/docker-deploy.ps1 start' }
    $code = 0
    foreach ($name in $nodes) {
        $facts = docker exec $name python -P -m workers.health 2>&1 | Select-Object -Last 1
        $word = 'healthy'
        if ($LASTEXITCODE -ne 0) { $word = 'UNHEALTHY'; $code = 1 }
        Write-Output ('{0,-16} {1,-10} {2}' -f $name, $word, $facts)
    }
    foreach ($name in $nodes) {
        # The first node that answers knows the others; 4 says that it answered and one is bad.
        docker exec $name synap status --check
        if ($LASTEXITCODE -eq 0) { exit $code }
        if ($LASTEXITCODE -eq 4) { exit 1 }
    }
    exit 1
}

switch ($Command) {
    'start' { Invoke-Compose up --detach; Wait-Healthy }
    'stop' { Invoke-Compose stop }
    'restart' { Invoke-Compose stop; Invoke-Compose up --detach; Wait-Healthy }
    'status' { Invoke-Compose ps; Show-Health }
    'logs' {
        $which = @(if ($Node) { $Node })
        Invoke-Compose logs --follow --tail 200 @which
    }
    'health' { Show-Health }
    'clean' {
        if (-not $Yes) {
            $answer = Read-Host "This removes the containers and ALL DATA of: $((Get-Node) -join ' ')`nType yes to go on"
            if ($answer -ne 'yes') { Write-Error 'nothing was removed' }
        }
        $options += '--profile', 'lb', '--profile', 'monitoring'
        Invoke-Compose down --volumes --remove-orphans
    }
}
