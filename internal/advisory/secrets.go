package advisory

var secrets = []Advisory{}
