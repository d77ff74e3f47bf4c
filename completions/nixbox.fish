# fish completion for nixbox. Verbs and options come from the program's own --help, so this cannot fall behind it.
function __nixbox_verbs
    nixbox --help 2>/dev/null | string replace -rf '^  ([a-z]+) +(.*)' '$1\t$2'
end
function __nixbox_verb
    for word in (commandline -opc)[2..-1]
        string match -q -- '-*' $word; or begin
            echo $word
            return 0
        end
    end
    return 1
end
function __nixbox_options
    nixbox (__nixbox_verb) --help 2>/dev/null | string match -ra -- '(?<![A-Za-z0-9-])--?[A-Za-z][A-Za-z-]*' | sort -u
end
function __nixbox_denied # hosts that were denied lately
    nixbox events --denied --json 2>/dev/null | string replace -rf '.*"host": *"([^"]*)".*' '$1' | sort -u
end
function __nixbox_probes
    nixbox attack --list 2>/dev/null | string replace -rf '^. +([^ ]+) +(.*)' '$1\t$2'
end
complete -c nixbox -n 'contains -- (__nixbox_verb) allow deny why' -f -a '(__nixbox_denied)'
complete -c nixbox -n 'contains -- (__nixbox_verb) attack' -f -a '(__nixbox_probes)'
complete -c nixbox -n 'not __nixbox_verb' -f -a '(__nixbox_verbs)'
complete -c nixbox -n 'string match -q -- "-*" (commandline -ct)' -f -a '(__nixbox_options)'
