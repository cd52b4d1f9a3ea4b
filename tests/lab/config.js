// The configuration of ternd in the lab.
'use strict';

exports.config = ({ host, tls }) => `# host ${host}
# tls ${tls}
`;
