async () => {
  // What modules of the console that know no page make of values; test_console.py runs it in one.
  const { difference, hexOf, losesDigits } = await import("./console/keys/text.js");
  const { quantile, sampleOf, chartsOf } = await import("./console/charts/metrics.js");
  const { copies } = await import("./console/cluster/master_loss.js");
  const { shownKey } = await import("./console/format.js");
  const marks = { kept: " ", gone: "-", new: "+" };
  const sample = (at, slow) => sampleOf([
    `synap_http_request_duration_seconds_bucket{route="/a",method="GET",le="0.001"} 90`,
    `synap_http_request_duration_seconds_bucket{route="/a",method="GET",le="0.01"} ${90 + slow}`,
    `synap_http_request_duration_seconds_bucket{route="/a",method="GET",le="+Inf"} ${90 + slow}`,
    `synap_http_request_duration_seconds_bucket{route="/watch",method="GET",le="+Inf"} 7`,
  ].join("\n"), at);
  return {
    difference: difference("a\nb\nc", "a\nx\nb").map((line) => marks[line.kind] + line.text),
    hex: hexOf(new Uint8Array([65, 0, 255]), 16),
    digits: ["12345678901234567", '"12345678901234567"', "1.5"].map(losesDigits),
    quantile: quantile(new Map([[0.001, 50], [0.01, 100], [Infinity, 100]]), 0.99),
    empty: quantile(new Map(), 0.99),
    rates: chartsOf([sample(10, 0), sample(20, 50), sample(30, 0)]).charts.requests[0].values,
    copies: copies([
      { status: "in_sync", offset: 7, lag_entries: 3 },
      { status: "in_sync", offset: 10, lag_entries: 0 },
      { status: "disconnected", offset: 10, lag_entries: 0 },
    ]).map(({ replicas, missing }) => [replicas, missing]),
    key: shownKey("a\u202eb\nc"),
  };
}
